"""FGSM: one signed gradient step.

Sources: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv:1412.6572: no random start and a
step of eps (the evaluation attack). Wong et al., "Fast is better than free", arXiv:2001.03994: uniform start, and a
projected step of 1.25 eps (FGSM adversarial training). Under an L2 threat model the step follows the normalised
gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Literal

from torch import nn

from buttress import Adv, AttackLossChoice, Batch, Context, LoadedAttackLoss, hookimpl, load_attack_loss
from buttress.functional import first_perturbation, pgd
from buttress.nn import AttackMode
from buttress.settings import NonNegativeFraction, PerEpoch

# The step of FGSM adversarial training over eps: Wong et al., section 4.
TRAINING_STEP = Fraction(5, 4)


@dataclass(eq=False, kw_only=True)
class FGSM:
    """Fast gradient sign method.

    Args:
        start: random start: ``none`` (evaluation, the default) or ``uniform`` in the ball (FGSM adversarial training).
        step_size: length of the step in units of the input; default eps, or 1.25 eps with a uniform start.
        loss: loss that the step maximises: ``ce``, ``margin``, ``kl`` (with a random start), ``objective`` (in training
            only), or another attack loss by name.
        attack_mode: mode of the model during the training attack: ``eval``, ``train``, ``train_notrack``.

    The draw ``fgsm.start`` may be injected: the finished first perturbation, ``[B,*]``.
    """

    start: Literal["none", "uniform"] = "none"
    step_size: PerEpoch[NonNegativeFraction] | None = None
    loss: AttackLossChoice = "ce"
    attack_mode: AttackMode = "eval"

    refuses: Mapping[str, str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss)
        self.refuses = self._loss.refuses
        if self.start == "none":
            self._loss.expect_gradient_at_x(["uniform"])

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        default = ctx.threat.eps * (TRAINING_STEP if self.start == "uniform" else 1)
        step_size = default if self.step_size is None else ctx.value(self.step_size)
        start = ctx.draw("start", batch.x.shape)
        if start is None:
            start = first_perturbation(self.start, batch.x, ctx.threat, partial(ctx.noise, "start"))
        loss = self._loss(model, batch, ctx)
        return Adv(pgd(loss, batch.x, ctx.threat, steps=1, step_size=step_size, start=start))
