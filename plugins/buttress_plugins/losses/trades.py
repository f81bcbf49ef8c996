"""TRADES: clean cross-entropy, and a prediction that does not change within the ball.

Source: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy",
arXiv:1901.08573; the public code takes KL(p(x) || p(x')), with gradient through both. Its attack maximises the same
divergence from a Gaussian start: ``pgd: {loss: kl, start: gaussian}``.

The public code makes two clean forwards in train mode, one for each term. One serves both: the loss is the same, and
batch norm's running statistics see the clean batch once; ``clean_forwards: 2`` reproduces theirs.

``label_smoothing`` is that of Wang, Pang, Du, Lin, Liu, Yan, "Better Diffusion Models Further Improve Adversarial
Training", arXiv:2302.04638, in its public code: of the clean cross-entropy alone, 0.1, with beta 5.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Interval
from torch import nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.functional import cross_entropy, kl_divergence
from buttress.settings import NonNegative, PerEpoch


@dataclass(eq=False, kw_only=True)
class TRADES:
    """``CE(f(x), y) + beta * KL(p(x) || p(x'))``.

    Args:
        beta: weight of the divergence; 6 in the paper.
        clean_forwards: number of clean forwards: 1, or 2 as in the public code.
        label_smoothing: share of each label that the cross-entropy spreads over all classes.
    """

    beta: PerEpoch[NonNegative] = 6.0
    clean_forwards: Literal[1, 2] = 1
    label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        logits = model(batch.x)
        adv_logits = model(adv.x)
        reference = model(batch.x) if self.clean_forwards == 2 else logits
        divergence = kl_divergence(adv_logits, F.log_softmax(reference, 1))
        fit = cross_entropy(logits, batch.y, self.label_smoothing)
        return Loss(fit + ctx.value(self.beta) * divergence)
