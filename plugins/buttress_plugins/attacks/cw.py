"""CW: projected gradient ascent on the margin between the best wrong logit and the right one.

Sources: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv:1608.04644, the loss f6;
under a norm bound as in Madry et al., arXiv:1706.06083, which robustness papers call CW-inf. It is not the original L2
attack, which looks for the smallest perturbation. The right class is masked with -inf; some public codes multiply by
zero instead, so that their best wrong logit is never below 0.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from buttress import Adv, Batch, Context, EarlyStop, hookimpl
from buttress.functional import first_perturbation, margin, pgd
from buttress.settings import NonNegativeFraction, Times

NO_SOFT_LABELS = {"soft labels": "its loss, the margin, is of one label against the others"}


@dataclass(eq=False, kw_only=True)
class CW:
    """PGD on the margin, L-inf or L2 as the threat model says.

    Args:
        steps: number of gradient steps; 100 as in the AT-AMP and RWP papers.
        step_size: length of a step in units of the input; default eps / 4 (2/255 at eps 8/255).
        kappa: confidence in units of logits; a margin beyond it gains nothing. The public codes have 50, which never
            binds in practice.
        start: random start, ``uniform`` in the ball, or ``none``.
        early_stop: whether an example is finished at the first point where the model errs on it: its answer is that
            point, and in an evaluation it leaves the batch.

    The draw ``cw.start`` may be injected: the finished first perturbation, ``[B,*]``.
    """

    refuses = NO_SOFT_LABELS

    steps: Times = 100
    step_size: NonNegativeFraction | None = None
    kappa: Annotated[float, Ge(0)] = 50.0
    start: Literal["uniform", "none"] = "uniform"
    early_stop: bool = False

    def forwards(self, examples: int) -> int:
        """Number of forwards for a batch, for progress bars."""
        return self.steps

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        start = ctx.draw("start", batch.x.shape)
        if start is None:
            start = first_perturbation(self.start, batch.x, ctx.threat, partial(ctx.noise, "start"))
        stop = EarlyStop(self.early_stop, model, batch, ctx)
        nonfinite = torch.zeros(len(batch.x), dtype=torch.int64, device=batch.x.device)
        x_adv = pgd(
            stop.loss(lambda model, batch, _: lambda x: capped_margin(model(x), batch.y, self.kappa)),
            batch.x,
            ctx.threat,
            steps=self.steps,
            step_size=ctx.threat.eps / 4 if self.step_size is None else self.step_size,
            start=stop.start(start),
            nonfinite=nonfinite,
        )
        return Adv(stop.answer(x_adv), {"nonfinite_grads": nonfinite})


def capped_margin(logits: Tensor, y: Tensor, kappa: float) -> Tensor:
    """``[B]`` values ``min(max_{k != y} z_k - z_y, kappa)`` of ``logits [B,K]``: the negative of Carlini's f6."""
    return margin(logits, y).clamp_max(kappa)
