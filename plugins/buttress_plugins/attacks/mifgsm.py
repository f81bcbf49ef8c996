"""MI-FGSM: signed steps along an accumulated gradient, which carries the attack over small bumps of the loss.

Source: Dong et al., "Boosting Adversarial Attacks with Momentum", arXiv:1710.06081, algorithm 1 and section 3.3 (L2).
Each gradient is divided by its L1 norm before it is added; a zero gradient adds nothing. The source starts at
the input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from buttress import (
    Adv,
    AttackLossChoice,
    Batch,
    Context,
    EarlyStop,
    LoadedAttackLoss,
    ThreatModel,
    hookimpl,
    load_attack_loss,
)
from buttress.functional import InputLoss, first_perturbation, input_gradient, per_example, unit_l2
from buttress.settings import NonNegativeFraction, Times


@dataclass(eq=False, kw_only=True)
class MIFGSM:
    """Momentum iterative fast gradient sign method.

    Args:
        steps: number of gradient steps.
        step_size: length of a step in units of the input; default eps / steps.
        decay: factor on the accumulated gradient at each step; 1 as in the paper, and 0 gives I-FGSM.
        loss: loss that the steps maximise: ``ce``, ``margin``, ``kl`` (with a random start), or another attack loss by
            name.
        start: ``none``, the input itself, or a random start ``uniform`` in the ball.
        early_stop: whether an example is finished at the first point where the model errs on it: its answer is that
            point, and in an evaluation it leaves the batch.

    The draw ``mifgsm.start`` may be injected: the finished first perturbation, ``[B,*]``.
    """

    steps: Times = 10
    step_size: NonNegativeFraction | None = None
    decay: Annotated[float, Ge(0)] = 1.0
    loss: AttackLossChoice = "ce"
    start: Literal["none", "uniform"] = "none"
    early_stop: bool = False

    refuses: Mapping[str, str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss)
        self.refuses = {**EarlyStop.refuses, **self._loss.refuses} if self.early_stop else self._loss.refuses
        if self.start == "none":
            self._loss.expect_gradient_at_x(["uniform"])

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        step_size = ctx.threat.eps / self.steps if self.step_size is None else self.step_size
        stop, start = EarlyStop(self.early_stop, model, batch, ctx), ctx.draw("start", batch.x.shape)
        if start is None:
            start = first_perturbation(self.start, batch.x, ctx.threat, partial(ctx.noise, "start"))
        x_adv = mifgsm(
            stop.loss(lambda model, batch, _: self._loss(model, batch, ctx)),
            batch.x,
            ctx.threat,
            steps=self.steps,
            step_size=step_size,
            decay=self.decay,
            start=stop.start(start),
        )
        return Adv(stop.answer(x_adv))


def mifgsm(
    loss: InputLoss,
    x: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: Fraction | float,
    decay: float,
    start: Tensor | None = None,
) -> Tensor:
    """Ascend ``loss`` (inputs to losses ``[B]``) from ``x + start``, both ``[B,*]``, with momentum.

    ``g <- decay * g + grad / ||grad||_1``, then a step of ``step_size`` along ``sign(g)``, or ``g / ||g||_2`` for L2.
    """
    x_adv, velocity = x.detach() if start is None else x.detach() + start, torch.zeros_like(x)
    for _ in range(steps):
        grad = input_gradient(loss, x_adv)
        size = grad.flatten(1).abs().sum(1).clamp_min(torch.finfo(grad.dtype).tiny)
        velocity = decay * velocity + grad / per_example(size, grad)
        direction = velocity.sign() if threat.norm == "linf" else unit_l2(velocity)
        x_adv = threat.project(x_adv + float(step_size) * direction, x)
    return x_adv
