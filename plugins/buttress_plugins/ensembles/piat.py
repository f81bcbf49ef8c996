"""PIAT: at the end of every epoch the live weights are pulled back toward those that the epoch began with.

Source: Liu, Yang, He, Hopcroft, "Parameter Interpolation Adversarial Training for Robust Image Classification",
arXiv:2511.00836, eq. 9 and 10. The coefficients of eq. 10 are not legible in the sources; ``min(a, (n + b) / (n + c))``
with a = 0.99, b = 1, c = 10 satisfies everything that the text says about them, and is the warm-up of the code that the
paper builds on. For fewer than 890 epochs the cap ``a`` never binds.

Choices where the paper is silent: batch-norm statistics are interpolated with the same coefficient; momentum buffers
stay as they are, and so refer to the path before the interpolation; epoch 0 is interpolated too, with a tenth of the
initial weights. Models are scored after the interpolation: those weights are carried forward.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from pydantic import PlainValidator, WithJsonSchema
from torch import Tensor, nn

from buttress import Context, Event, hookimpl
from buttress.nn import reestimate, tracked_norms

Share = Annotated[float, Ge(0), Le(1)]


def _coefficient(value: object) -> object:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    if value is None or number or callable(value):
        return value
    raise ValueError(f"expected a number in [0, 1], null, or (from code) a function of the epoch, got {value!r}")


Coefficient = Annotated[
    float | Callable[[int], float] | None,
    PlainValidator(_coefficient),
    WithJsonSchema({"type": ["number", "null"], "minimum": 0, "maximum": 1}),
]


@dataclass(eq=False, kw_only=True)
class PIAT:
    """Parameter interpolation adversarial training: ``theta <- lambda * theta_previous + (1 - lambda) * theta``.

    Args:
        lam: constant coefficient (the paper's ablation), or a function of the 0-based epoch (from code); null stands
            for the schedule ``min(a, (n + b) / (n + c))``.
        a: largest coefficient.
        b: constant of the schedule, see ``lam``.
        c: constant of the schedule, see ``lam``.
        n0: number of the first epoch in the schedule, 0 or 1.
        buffers: batch-norm statistics: ``interpolate`` with the same coefficient, ``keep`` those of the epoch, or
            ``reestimate`` them on clean training inputs.
        skip_first: whether to leave the first epoch's weights as they are.
    """

    writes_back = True

    lam: Coefficient = None
    a: Share = 0.99
    b: Annotated[float, Ge(0)] = 1.0
    c: Annotated[float, Ge(0)] = 10.0
    n0: Literal[0, 1] = 0
    buffers: Literal["interpolate", "keep", "reestimate"] = "interpolate"
    skip_first: bool = False

    _previous: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.b > self.c:
            raise ValueError(f"expected b <= c, so that the coefficient is at most 1, got b = {self.b}, c = {self.c}")
        if self.n0 + self.c == 0:
            raise ValueError("expected n0 + c > 0, so that the first coefficient is defined, got n0 = 0, c = 0")

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._previous = {name: value.detach().clone() for name, value in self._interpolated(model).items()}

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> None:
        if event != "epoch":
            return
        weights = self._interpolated(model)
        if not (self.skip_first and ctx.epoch == 0):
            lam = self.coefficient(ctx.epoch)
            interpolate_(weights, self._previous, lam)
            if self.buffers == "reestimate":
                reestimate(model, (batch.x for batch in ctx.batches()))
            ctx.record("lambda", lam)
        copy_(self._previous, weights)

    def coefficient(self, epoch: int) -> float:
        """Lambda at the end of a 0-based epoch."""
        if self.lam is None:
            return schedule(epoch + self.n0, self.a, self.b, self.c)
        return self.lam(epoch) if callable(self.lam) else self.lam

    def _interpolated(self, model: nn.Module) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = dict(model.named_parameters())
        if self.buffers == "interpolate":
            norms = {id(buffer) for norm in tracked_norms(model) for buffer in norm.buffers(recurse=False)}
            named = model.named_buffers()
            tensors |= {name: b for name, b in named if id(b) in norms and b.is_floating_point()}
        return tensors

    def state_dict(self) -> dict[str, Any]:
        return {"previous": dict(self._previous)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        copy_(self._previous, state["previous"])


def schedule(n: int, a: float = 0.99, b: float = 1.0, c: float = 10.0) -> float:
    """The coefficient ``min(a, (n + b) / (n + c))`` of epoch number ``n`` (eq. 10)."""
    return min(a, (n + b) / (n + c))


@torch.no_grad()
def interpolate_(current: Mapping[str, Tensor], previous: Mapping[str, Tensor], lam: float) -> None:
    """``current <- lam * previous + (1 - lam) * current`` (eq. 9), in place: optimizer state stays attached."""
    torch._foreach_lerp_(list(current.values()), [previous[name] for name in current], lam)


@torch.no_grad()
def copy_(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """``places[name] <- values[name]``, in place."""
    torch._foreach_copy_(list(places.values()), [values[name] for name in places])
