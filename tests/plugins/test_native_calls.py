"""The methods that have compiled operations call them: none falls back to pure torch in silence."""

import os
from collections import Counter
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from buttress.kernels import native, use_backend

from ..models import ConvNet
from .catalogue import stack_of
from .conftest import batch_of, engine_of


class Calls(TorchDispatchMode):
    """Counts calls of this project's operators, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.namespace == "buttress":
            self.counts[operator.overloadpacket.__name__] += 1
        return operator(*args, **(kwargs or {}))


def calls(name: str, backend: str) -> Counter[str]:
    """Calls in two steps and at an epoch's end."""
    engine = engine_of(ConvNet(), *stack_of(name))
    with use_backend(backend), Calls() as counted:
        for seed in range(2):
            batch = batch_of(seed=seed)
            engine.step(batch.x, batch.y)
        engine.end_epoch()
        engine.tracks()
    return counted.counts


EXPECTED = {
    "awp": {"perturb_": 2, "unperturb_": 2},
    "rat_wp": {"perturb_": 2, "unperturb_": 2},
    "rwp": {"lsc_cross_entropy": 4, "rwp_first_step_": 2, "rwp_step_": 2, "unperturb_": 2},
    "amp": {"amp_first_step_": 2, "amp_step_": 2, "restore_": 2},
    "meat": {"median": 1},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_calls_the_compiled_operators(name: str):
    missing = set(EXPECTED[name]) - set(native.operations())
    if missing:
        if os.environ.get("CI"):
            pytest.fail(native.why_not(missing.pop()))
        pytest.skip(native.why_not(missing.pop()))
    actual = calls(name, "native")
    for operation, times in EXPECTED[name].items():
        assert sum(count for called, count in actual.items() if called.startswith(operation)) >= times > 0, actual


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_on_the_torch_backend_calls_none(name: str):
    assert not calls(name, "torch")
