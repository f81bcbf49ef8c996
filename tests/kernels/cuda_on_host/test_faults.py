"""Planted faults are found; without one the kernels pass, under ThreadSanitizer too."""

import pytest

from tests.kernels.cuda_on_host.build import ROOT, why_not
from tests.kernels.cuda_on_host.faults import FAULTS, Fault
from tests.kernels.cuda_on_host.sanitizers import faulty, runtime, sanitized

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

CHEAP = [fault for fault in FAULTS if fault.cheap]
"""`make sanitize` tries all."""


@pytest.fixture(scope="module")
def thread_sanitizer() -> None:
    if not runtime("thread").is_absolute():
        pytest.skip("the compiler has no ThreadSanitizer (libtsan)")


@pytest.mark.parametrize("fault", CHEAP, ids=lambda fault: fault.kind)
def test_a_planted_fault_is_found(fault: Fault, request: pytest.FixtureRequest):
    if fault.race:
        request.getfixturevalue("thread_sanitizer")
    done = faulty(fault)
    assert done.returncode != 0
    assert not fault.race or f"csrc/{fault.path}" in done.stderr


@pytest.mark.parametrize("family", ["lsc", "perturb"])
@pytest.mark.usefixtures("thread_sanitizer")
def test_threads_of_a_launch_do_not_race(family: str):
    done = sanitized(family, "thread")
    assert done.returncode == 0, done.stderr


def test_the_page_counts_them():
    counts = (
        f"{len(FAULTS)} faults are planted in the sources one by one, and each is found; `make test` tries {len(CHEAP)}"
    )
    assert counts in (ROOT / "docs" / "kernels.md").read_text()
