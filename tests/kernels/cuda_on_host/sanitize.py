"""Every fault, and every family under both sanitizers: `make sanitize`. Pytest does not collect this file by itself."""

import pytest

from tests.kernels.cuda_on_host.build import why_not
from tests.kernels.cuda_on_host.faults import FAULTS, Fault
from tests.kernels.cuda_on_host.sanitizers import RUNTIMES, faulty, runtime, sanitized

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_a_planted_fault_is_found(fault: Fault):
    assert faulty(fault).returncode != 0


@pytest.mark.parametrize("sanitizer", RUNTIMES)
@pytest.mark.parametrize("family", ["median", "lsc", "perturb"])
def test_a_sanitizer_finds_nothing(family: str, sanitizer: str):
    assert runtime(sanitizer).is_absolute(), f"the compiler has no {runtime(sanitizer)}"
    done = sanitized(family, sanitizer)
    assert done.returncode == 0, done.stderr
