"""GAIRAT: examples that the attack turns early weigh more.

Source: Zhang, Zhu, Niu, Han, Sugiyama, Kankanhalli, "Geometry-aware Instance-reweighted Adversarial Training",
arXiv:2010.01736, equations 5 and 6. kappa counts the iterates of PGD that the model still classifies correctly, the
start included and the final point left out; a small one is an example near the decision boundary. The weights have mean
1 over the batch. Until the epoch ``begin`` they are all 1.

The public code has int(K / 2) in the place of K / 2, which differs where the number of steps K is odd (``variant:
official``), and calls the linear weights *Discrete*. Its code for TRADES weighs other terms than its paper; here the
weight is that of an example's whole loss, whatever the loss.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Epoch, Loss, hookimpl, load_attack_loss
from buttress.functional import Start, attack_loss, first_perturbation, hard_labels, is_correct, pgd
from buttress.nn import AttackMode, LastOutput
from buttress.settings import NonNegativeFraction, PerEpoch, Times, values_of

Weighting = Literal["tanh", "sigmoid", "linear"]

NO_MIXED_INPUTS = {"mixed inputs": "it counts where the model is right about the label, and a mixed input has two"}


@dataclass(eq=False, kw_only=True)
class GAIRAT:
    """PGD that counts, and a wrapper of the training loss that weighs by the counts; records their mean.

    Args:
        steps: number of gradient steps, K.
        step_size: length of a step in units of the input; default eps / 4 (2/255 at eps 8/255).
        weighting: weight of an example by its count: ``tanh``, ``sigmoid``, or ``linear``, which has no ``lam``.
        variant: middle of the counts: ``paper`` K / 2, or ``official`` int(K / 2), as in the public code.
        lam: shift of the weights towards all examples (large) or those near the boundary (small); -1 in the paper.
        begin: first epoch with weights; that of the paper's 120 epochs.
        loss: loss that the steps maximise: ``ce`` cross-entropy, or ``kl`` divergence from the clean prediction
            (TRADES).
        start: random start: ``uniform`` in the ball, ``gaussian`` (x + 0.001 N(0, 1), not clamped; TRADES), or
            ``none``.
        attack_mode: mode of the model during the attack: ``eval``, ``train``, ``train_notrack``.

    The draw ``gairat.start`` may be injected: the finished first perturbation, ``[B,*]``.
    """

    refuses = NO_MIXED_INPUTS

    steps: PerEpoch[Times] = 10
    step_size: PerEpoch[NonNegativeFraction] | None = None
    weighting: Weighting = "tanh"
    variant: Literal["paper", "official"] = "paper"
    lam: Annotated[float, Interval(ge=-100, le=100)] = -1.0
    begin: Epoch = 59
    loss: Literal["ce", "kl"] = "ce"
    start: Start = "uniform"
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        if self.variant == "official" and 1 in values_of(self.steps):
            raise ValueError("steps: expected at least 2 with variant official, which divides by int(steps / 2), got 1")
        if self.start == "none":
            load_attack_loss(self.loss).expect_gradient_at_x(["gaussian", "uniform"])

    def forwards(self, examples: int) -> int:
        """Largest number of forwards for a batch, for progress bars."""
        return max(values_of(self.steps))

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        x = batch.x
        seen, label = LastOutput(model), hard_labels(batch.y)
        loss = attack_loss(self.loss, seen, x, batch.y)
        kappa = torch.zeros(len(x), dtype=torch.int64, device=x.device)

        def counted(x_adv: Tensor) -> Tensor:
            losses = loss(x_adv)
            kappa.add_(is_correct(seen.last(), label))
            return losses

        start = ctx.draw("start", x.shape)
        if start is None:
            start = first_perturbation(self.start, x, ctx.threat, partial(ctx.noise, "start"))
        step_size = ctx.threat.eps / 4 if self.step_size is None else ctx.value(self.step_size)
        x_adv = pgd(counted, x, ctx.threat, steps=ctx.value(self.steps), step_size=step_size, start=start)
        ctx.record("kappa", kappa.to(x.dtype).mean())
        return Adv(x_adv, {"kappa": kappa})

    @hookimpl(wrapper=True)
    def compute_loss(self, adv: Adv, ctx: Context) -> Generator[None, Loss, Loss]:
        loss = yield
        if ctx.epoch < ctx.resolve_epoch(self.begin):
            return loss
        if "kappa" not in adv.aux:
            raise ValueError(
                "adv.aux: expected the counts 'kappa' of its own attack, got adversarial examples without; another "
                "plugin replaced them, take that one out or keep adv.aux"
            )
        kappa = adv.aux["kappa"].to(loss.per_example.dtype)
        steps = ctx.value(self.steps)
        half = steps / 2 if self.variant == "paper" else steps // 2
        weights = geometry_weights(ctx.whole(kappa), steps, self.weighting, self.lam, half)
        return Loss(ctx.rows(weights) * loss.per_example, loss.penalty)


def geometry_weights(kappa: Tensor, steps: int, weighting: Weighting, lam: float, half: float | None = None) -> Tensor:
    """``[B]`` weights of mean 1 from counts ``kappa [B]``, of 0 to ``steps``, whose middle is ``half`` (``steps / 2``).

    ``tanh`` is (1 + tanh u) / 2 with u = lam + 5 (1 - kappa / half), which equals sigmoid(2 u); ``sigmoid`` is
    sigmoid(u); ``linear`` is 1 - kappa / (K + 1). The logarithms are taken and normalised, so that weights which are
    all nearly 0 keep their ratios.
    """
    if weighting == "linear":
        logarithm = torch.log1p(-kappa / (steps + 1))
    else:
        u = lam + 5 * (1 - kappa / (steps / 2 if half is None else half))
        logarithm = F.logsigmoid(2 * u if weighting == "tanh" else u)
    return len(kappa) * F.softmax(logarithm, 0)
