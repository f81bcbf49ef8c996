"""EMA: exponential moving average of the weights, per step (WA; with warm-up and averaged buffers, SEAT).

Sources: Gowal et al., "Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial Examples",
arXiv:2010.03593; for the re-estimated batch norm Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
Generalization", arXiv:1803.05407; Wang and Wang, "Self-Ensemble Adversarial Training for Improved Robustness",
arXiv:2203.09678 (SEAT): ``{buffers: ema, track: seat}``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from buttress import Context, Event, Track, hookimpl
from buttress.settings import Curve, Epoch, PerEpoch, resolve_epoch


@dataclass(eq=False, kw_only=True)
class EMA:
    """Weight averaging: ``avg <- tau * avg + (1 - tau) * theta`` after every optimizer step.

    Args:
        tau: weight of the past average in each step.
        start: the average begins as the weights at the start of this epoch: 0-based, or a fraction in (0, 1).
        start_step: the average begins as the weights before this step of the run, 0-based, in the place of ``start``.
        warmup: whether to use ``min(tau, (1 + d) / (10 + d))`` in the d-th step after the start (SEAT, Gowal et al.),
            so that a short run forgets its beginning too; ``false`` keeps ``tau`` constant.
        buffers: batch-norm statistics: ``reestimate`` on clean training inputs, ``copy`` the live ones, or ``ema``
            averages of all float buffers (SEAT); integer buffers are always the live ones.
        track: name of the track.
    """

    tau: PerEpoch[Annotated[float, Ge(0), Le(1)]] = 0.999
    start: Epoch = 0
    start_step: Annotated[int, Ge(0)] | None = None
    warmup: bool = True
    buffers: Literal["reestimate", "copy", "ema"] = "reestimate"
    track: str = "ema"

    _average: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _steps: Tensor = field(init=False, repr=False, default_factory=partial(torch.zeros, (), dtype=torch.int64))
    _device: torch.device = field(init=False, repr=False, default=torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.start_step is not None and self.start != 0:
            raise ValueError(f"start_step: takes the place of start, and start is {self.start}; leave one of them out")

    def notes(self, epochs: int, steps_per_epoch: int) -> list[str]:
        """A remark where a constant ``tau`` remembers more steps than the run has, or where it never begins."""
        steps = max(0, epochs - resolve_epoch(self.start, epochs)) * steps_per_epoch - (self.start_step or 0)
        if self.start_step is not None and steps <= 0:
            return [f"start_step {self.start_step:,} never comes: the run has {epochs * steps_per_epoch:,} steps"]
        if self.warmup or isinstance(self.tau, Curve) or not 0 < steps < memory(self.tau):
            return []
        return [
            f"tau {self.tau:g} remembers {memory(self.tau):,.0f} steps, and the run has {steps:,} from start on: "
            "the average stays near where it began; leave out warmup: false, or lower tau"
        ]

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        self._device = ctx.device
        if not self.start_step and ctx.resolve_epoch(self.start) == 0:
            self._begin(model)

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> Track | None:
        if event == "step" and not self._average and self._is_time(ctx):
            self._begin(model)  # before the step that comes, or where the epoch was moved past the start, from here on
        elif event == "step" and self._average:
            taken = ~ctx.skipped  # in a step that was taken back nothing moves
            tau = decay(ctx.value(self.tau), self._steps, self.warmup)
            lerp_(self._average, averaged(model, self.buffers == "ema"), (1 - tau) * taken)
            self._steps = self._steps + taken
        elif event == "epoch" and self.start_step is None and ctx.epoch + 1 == ctx.resolve_epoch(self.start):
            self._begin(model)
        elif event == "evaluate":
            return self._track(model)
        return None

    def _is_time(self, ctx: Context) -> bool:
        if self.start_step is not None:
            return ctx.global_step + 1 >= self.start_step
        return ctx.epoch >= ctx.resolve_epoch(self.start)

    def _begin(self, model: nn.Module) -> None:
        self._average = {name: value.clone() for name, value in averaged(model, self.buffers == "ema").items()}
        self._steps = torch.zeros((), dtype=torch.int64, device=self._device)

    def _track(self, model: nn.Module) -> Track:
        if not self._average:
            return Track(self.track, None, buffers="reestimate" if self.buffers == "reestimate" else "live")
        names = {name for name, _ in model.named_parameters()}
        weights = {name: value for name, value in self._average.items() if name in names}
        if self.buffers == "reestimate":
            return Track(self.track, weights, buffers="reestimate")
        given = {name: value for name, value in self._average.items() if name not in names}
        return Track(self.track, weights, buffers="given" if given else "live", given_buffers=given)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average = {
            name: value.to(self._device, copy=True)  # lerp_ writes into it
            for name, value in state["average"].items()
        }
        self._steps = torch.as_tensor(state["steps"], device=self._device)


def memory(tau: float) -> float:
    """Number of steps after which a constant ``tau`` has forgotten."""
    return inf if tau == 1 else 1 / (1 - tau)


def decay(tau: float, step: Tensor, warmup: bool) -> Tensor:
    """Weight of the past at 0-based ``step`` of the average; both 0-dim, the weight in float64."""
    step = step.double()
    return ((1 + step) / (10 + step)).clamp(max=tau) if warmup else torch.full_like(step, tau)


def averaged(model: nn.Module, buffers: bool) -> dict[str, Tensor]:
    """Tensors to average by name: parameters, and with ``buffers`` the float buffers."""
    tensors = {name: weight.detach() for name, weight in model.named_parameters()}
    if buffers:
        tensors |= {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    return tensors


@torch.no_grad()
def lerp_(average: Mapping[str, Tensor], values: Mapping[str, Tensor], weight: Tensor) -> None:
    """``average <- average + weight * (values - average)``, in place; ``weight`` is 0-dim."""
    in_dtype = {dtype: weight.to(dtype) for dtype in {value.dtype for value in average.values()}}
    weights = [in_dtype[value.dtype] for value in average.values()]  # of all tensors: torch takes no single one
    torch._foreach_lerp_(list(average.values()), [values[name] for name in average], weights)
