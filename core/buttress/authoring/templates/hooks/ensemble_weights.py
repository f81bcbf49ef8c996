"""Mean of weights: the mean over the ends of the late epochs, evaluated beside the live model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from buttress import Context, Event, Track, hookimpl
from buttress.settings import Epoch


@dataclass(eq=False, kw_only=True)
class Example:
    """The mean of the weights at the ends of the late epochs, as a track.

    Args:
        start: first epoch that counts: a 0-based epoch, or a fraction of the epochs in (0, 1).
        track: name of the track.
    """

    start: Epoch = 0.5
    track: str = "mean"
    _mean: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _count: int = field(init=False, repr=False, default=0)

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> Track | None:
        if event == "epoch" and ctx.epoch >= ctx.resolve_epoch(self.start):
            weights = {name: weight.detach() for name, weight in model.named_parameters()}
            if not self._mean:
                self._mean = {name: torch.zeros_like(weight) for name, weight in weights.items()}
            self._count += 1
            update_mean_(self._mean, weights, self._count)
        if event != "evaluate":
            return None
        return Track(self.track, dict(self._mean) or None)  # None: it has not begun, the live weights stand in

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._mean, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = {name: value.clone() for name, value in state["mean"].items()}
        self._count = state["count"]


@torch.no_grad()
def update_mean_(mean: Mapping[str, Tensor], new: Mapping[str, Tensor], count: int) -> None:
    """Make ``mean``, of ``count - 1`` tensors by name, the mean of ``count``, in place."""
    for name, value in mean.items():
        value.lerp_(new[name].to(value.device), 1 / count)


def test_update_mean_is_the_mean() -> None:
    mean = {"w": torch.zeros(1)}
    for count, value in enumerate([1.0, 2.0, 6.0], start=1):
        update_mean_(mean, {"w": torch.tensor([value])}, count)
    torch.testing.assert_close(mean["w"], torch.tensor([3.0]))
