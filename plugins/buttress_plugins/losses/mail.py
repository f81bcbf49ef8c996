"""MAIL: examples near the decision boundary, or beyond it, weigh more.

Source: Wang, Liu, Han, Liu, Gong, Niu, Zhou, Sugiyama, "Probabilistic Margins for Instance Reweighting in Adversarial
Training", arXiv:2106.07904. The weight of an example is a sigmoid of its margin on the adversarial input, detached.
As in the public code it belongs to one term of the loss: with ``form: at`` to the cross-entropy, with ``trades`` to the
divergence, with ``mart`` to the boosted cross-entropy. So this is a loss of three forms, and no wrapper. The code
multiplies by 3 and does not normalise (``scale``); the paper's weights sum to one, of which ``normalize`` makes a
version for the batch. The defaults are the code's for TRADES. The attacks: ``pgd: {start: gaussian}``, and for
``trades`` with ``loss: kl`` besides.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Epoch, Loss, hookimpl
from buttress.functional import (
    boosted_cross_entropy,
    cross_entropy,
    expect_labels,
    kl_divergence,
    margin,
    mart_divergence,
)
from buttress.settings import NonNegative, PerEpoch

NO_SOFT_LABELS = {"soft labels": "its margin sets the label's class against the best other one"}
Positive = Annotated[float, Gt(0)]


@dataclass(eq=False, kw_only=True)
class MAIL:
    """PGD-AT, TRADES or MART with a term weighted by ``scale * sigmoid(slope * (margin + bias))``; labels ``[B]``.

    The margin is ``max_{k != y} p_k(x') - p_y(x')``.

    Args:
        form: loss whose term is weighted: ``at``, ``trades`` or ``mart``.
        beta: weight of the second term of ``trades`` and ``mart``.
        slope: slope of the sigmoid.
        bias: shift of the margins.
        scale: largest weight.
        normalize: whether the weights are divided by their mean over the batch.
        start: first epoch with weights; before, they are all 1.
    """

    refuses = NO_SOFT_LABELS

    form: Literal["at", "trades", "mart"] = "trades"
    beta: PerEpoch[NonNegative] = 5.0
    slope: Positive = 1.0
    bias: Annotated[float, Interval(ge=-100, le=100)] = -1.5
    scale: Positive = 3.0
    normalize: bool = False
    start: Epoch = 75

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        y = expect_labels(batch.y)
        if self.form == "at":
            adv_logits = model(adv.x)
            return Loss(self._weights(adv_logits, y, ctx) * cross_entropy(adv_logits, y))
        logits, adv_logits = model(batch.x), model(adv.x)
        weights = self._weights(adv_logits, y, ctx)
        if self.form == "trades":
            divergence = kl_divergence(adv_logits, F.log_softmax(logits, 1))
            return Loss(cross_entropy(logits, y) + ctx.value(self.beta) * weights * divergence)
        boosted = boosted_cross_entropy(adv_logits, y)
        return Loss(weights * boosted + ctx.value(self.beta) * mart_divergence(logits, adv_logits, y))

    def _weights(self, adv_logits: Tensor, y: Tensor, ctx: Context) -> Tensor:
        """``[B]`` weights, without gradient."""
        if ctx.epoch < ctx.resolve_epoch(self.start):
            return torch.ones_like(adv_logits[:, 0])
        margins = margin(F.softmax(adv_logits.detach(), 1), y)
        weights = self.scale * torch.sigmoid(self.slope * (margins + self.bias))
        return weights / ctx.mean(weights) if self.normalize else weights
