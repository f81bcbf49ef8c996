"""Fast AT: FGSM adversarial training from a uniform start, with a step longer than the ball's radius.

Source: Wong, Rice, Kolter, "Fast is better than free: Revisiting adversarial training", arXiv:2001.03994, algorithm 3;
also called FGSM-RS. It is ``fgsm`` with ``start: uniform``, under the name by which papers and configs know it. As in
the public code, the start is clipped to the box before the gradient is taken. The paper has L-inf only. Under an L2
threat model the start has a random direction and a uniform length, and the step follows the normalised gradient.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from torch import nn

from buttress import Adv, Batch, Context, hookimpl
from buttress.functional import attack_loss, pgd
from buttress.nn import AttackMode
from buttress.settings import NonNegativeFraction, PerEpoch

# Length of the step over eps: the paper, section 4.
STEP = Fraction(5, 4)


@dataclass(eq=False, kw_only=True)
class Fast:
    """Fast gradient sign method from a uniform start: one projected step of 1.25 eps.

    Args:
        step_size: length of the step in units of the input; default 1.25 eps.
        attack_mode: mode of the model during the training attack: ``eval``, ``train`` (the public code),
            ``train_notrack``.

    The draw ``fast.start`` may be injected: the finished first perturbation, ``[B,*]``.
    """

    step_size: PerEpoch[NonNegativeFraction] | None = None
    attack_mode: AttackMode = "eval"

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        step_size = STEP * ctx.threat.eps if self.step_size is None else ctx.value(self.step_size)
        start = ctx.draw("start", batch.x.shape)
        if start is None:
            start = ctx.threat.random_start(batch.x, partial(ctx.noise, "start")) - batch.x
        loss = attack_loss("ce", model, batch.x, batch.y)
        return Adv(pgd(loss, batch.x, ctx.threat, steps=1, step_size=step_size, start=start))
