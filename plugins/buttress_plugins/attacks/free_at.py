"""Free AT: one backward gives the gradients of the weights and of the inputs, and the perturbation lives on.

Source: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor, Goldstein, "Adversarial Training for Free!",
arXiv:1904.12843, algorithm 1. Every batch is trained m times in a row (``data.replays: m``); each of these steps trains
on the perturbation as the step before left it, and moves it along its own input gradient. As in the authors' code, one
perturbation serves all batches, begins at zero and stays in the ball, and an element that the box cuts off does not
move. A batch smaller than the largest uses the first rows. The paper has L-inf only. Under an L2 threat model the
perturbation moves along the normalised gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from buttress import Adv, Batch, Context, Event, ThreatModel, hookimpl
from buttress.functional import unit_l2
from buttress.settings import NonNegativeFraction, PerEpoch


@dataclass(eq=False, kw_only=True)
class FreeAT:
    """Free adversarial training: an attack without a pass of its own. It draws nothing.

    Args:
        step_size: length of the move of the perturbation in each step, in units of the input; default eps.
    """

    input_grad = True

    step_size: PerEpoch[NonNegativeFraction] | None = None

    _delta: Tensor | None = field(init=False, repr=False, default=None)
    _moved: Tensor | None = field(init=False, repr=False, default=None)
    _uncut: Tensor | None = field(init=False, repr=False, default=None)

    @hookimpl
    def generate_adv(self, batch: Batch, ctx: Context) -> Adv:
        perturbed = batch.x.detach() + within(self._delta_of(batch.x, ctx), ctx.threat)
        x_adv = ctx.threat.clamp(perturbed)
        self._uncut = x_adv == perturbed
        return Adv(x_adv)

    @hookimpl
    def adjust_grads(self, ctx: Context) -> None:
        grad, uncut = ctx.input_grad, self._uncut
        assert grad is not None
        assert uncut is not None
        step_size = ctx.threat.eps if self.step_size is None else ctx.value(self.step_size)
        delta = within(self._delta_of(grad, ctx), ctx.threat)
        moved = ctx.whole(move(delta, torch.where(uncut, grad, 0.0), ctx.threat, float(step_size)))
        self._moved = moved if self._delta is None else torch.cat([moved, self._delta[len(moved) :]])
        self._uncut = None

    @hookimpl
    def ensemble_weights(self, event: Event, ctx: Context) -> None:
        if event == "step" and self._moved is not None:
            self._delta = torch.where(ctx.skipped, rows(self._delta, self._moved, len(self._moved)), self._moved)
            self._moved = None

    def _delta_of(self, x: Tensor, ctx: Context) -> Tensor:
        """The perturbation ``[B,*]`` of the rows of this process."""
        return ctx.rows(rows(self._delta, x, ctx.size(x)))

    def state_dict(self) -> dict[str, Any]:
        return {} if self._delta is None else {"delta": self._delta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._delta = state.get("delta")


def rows(delta: Tensor | None, like: Tensor, count: int) -> Tensor:
    """``[count,*]``: the first rows of ``delta``, each as a row of ``like``; zero where no batch has had so many."""
    if delta is None:
        return like.new_zeros((count, *like.shape[1:]))
    first = delta[:count].to(like)
    return torch.cat([first, like.new_zeros((count - len(first), *like.shape[1:]))])


def move(delta: Tensor, grad: Tensor, threat: ThreatModel, step_size: float) -> Tensor:
    """``delta [B,*]`` moved by ``step_size`` up ``grad [B,*]``, and brought back into the ball around zero."""
    direction = grad.sign() if threat.norm == "linf" else unit_l2(grad)
    return within(delta + step_size * direction, threat)


def within(delta: Tensor, threat: ThreatModel) -> Tensor:
    """``delta [B,*]`` brought into the ball around zero, which may have shrunk since the last epoch."""
    return ThreatModel(threat.norm, threat.eps, box=None).project(delta, torch.zeros_like(delta))
