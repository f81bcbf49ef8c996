"""SWA: the equal-weight average of the weights at the ends of the late epochs.

Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv:1803.05407; in
adversarial training: Chen et al., "Robust Overfitting may be mitigated by Properly Learned Smoothening", ICLR 2021
(there from epoch 55 of 200). Parameters only; batch norm is re-estimated on clean training inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from buttress import Context, Event, Track, hookimpl
from buttress.settings import Epoch


@dataclass(eq=False, kw_only=True)
class SWA:
    """Stochastic weight averaging: ``avg <- avg + (theta - avg) / (n + 1)`` at the end of every late epoch.

    Args:
        start: first epoch whose final weights are averaged: 0-based epoch, or a fraction of the epochs in (0, 1).
        track: name of the track.
    """

    start: Epoch = 0.5
    track: str = "swa"

    _average: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _count: int = field(init=False, repr=False, default=0)
    _device: torch.device = field(init=False, repr=False, default=torch.device("cpu"))

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        self._device = ctx.device

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> Track | None:
        if event == "epoch" and ctx.epoch >= ctx.resolve_epoch(self.start):
            self._average = running_mean(self._average, model, self._count)
            self._count += 1
        if event == "evaluate":
            return Track(self.track, dict(self._average) if self._count else None, buffers="reestimate")
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average = {name: value.to(self._device) for name, value in state["average"].items()}
        self._count = state["count"]


@torch.no_grad()
def running_mean(average: Mapping[str, Tensor], model: nn.Module, count: int) -> dict[str, Tensor]:
    """The mean of ``count`` earlier weights (``average``) and those of ``model``, parameter by parameter."""
    names, weights = zip(*model.named_parameters(), strict=True)
    if count == 0:
        return {name: weight.clone() for name, weight in zip(names, weights, strict=True)}
    moved = torch._foreach_lerp([average[name] for name in names], list(weights), 1 / (count + 1))
    return dict(zip(names, moved, strict=True))
