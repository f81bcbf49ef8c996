"""Averages of the weights are one operation over all weights, not one for each."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from buttress_plugins.ensembles import ema, fawa, meat, piat, swa

from ..models import ConvNet

MODEL = ConvNet()
EARLIER = {name: torch.ones_like(value) for name, value in ConvNet().state_dict().items() if value.is_floating_point()}

AVERAGES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "ema": (
        lambda: ema.lerp_(EARLIER, ema.averaged(MODEL, buffers=True), torch.tensor(0.5, dtype=torch.float64)),
        ["_foreach_lerp_"],
    ),
    "swa": (lambda: swa.running_mean(EARLIER, MODEL, 3), ["_foreach_lerp"]),
    "fawa": (lambda: fawa.averaged(EARLIER, MODEL, 0.9), ["_foreach_lerp"]),
    "piat": (lambda: piat.interpolate_(dict(MODEL.named_parameters()), EARLIER, 0.5), ["_foreach_lerp_"]),
    "piat, remembered": (lambda: piat.copy_(EARLIER, MODEL.state_dict()), ["_foreach_copy_"]),
    "meat": (lambda: meat.snapshot(MODEL), ["_foreach_norm", "stack"]),
}


class Operations(TorchDispatchMode):
    """Counts operations by name; views and aliases are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view:
            self.counts[operation._schema.name.removeprefix("aten::")] += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", AVERAGES)
def test_all_weights_are_averaged_in_one_operation(name: str):
    average, expected = AVERAGES[name]
    with Operations() as operations:
        average()
    casts = {"_to_copy", "detach"}  # of the weight of the average
    assert {name: count for name, count in operations.counts.items() if name not in casts} == dict.fromkeys(expected, 1)
    assert operations.counts["_to_copy"] <= 1
