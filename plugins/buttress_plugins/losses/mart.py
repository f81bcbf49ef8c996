"""MART: misclassified examples weigh more.

Source: Wang, Zou, Yi, Bailey, Ma, Gu, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
ICLR 2020; with the constants of the public code (1.0001, 1.0000001, 1e-12), which move the loss visibly
where a probability is near 0 or 1. As there, the cross-entropy itself has no guard: 1e-12 in its logarithm would take
the gradient from the most misclassified examples. The attack is ``pgd: {start: gaussian}``.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.functional import boosted_cross_entropy, expect_labels, mart_divergence
from buttress.settings import NonNegative, PerEpoch

NO_SOFT_LABELS = {"soft labels": "its boosted cross-entropy sets the label's class against the best other one"}


@dataclass(eq=False, kw_only=True)
class MART:
    """``BCE(p(x'), y) + lam * KL(p(x) || p(x')) * (1 - p_y(x))``, with labels ``[B]``.

    Args:
        lam: weight of the second term: 5 for ResNet-18, 6 for wide ResNets.
    """

    refuses = NO_SOFT_LABELS

    lam: PerEpoch[NonNegative] = 5.0

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        y = expect_labels(batch.y)
        logits, adv_logits = model(batch.x), model(adv.x)
        return Loss(mart(logits, adv_logits, y, ctx.value(self.lam)))


def mart(logits: Tensor, adv_logits: Tensor, y: Tensor, lam: float) -> Tensor:
    """``[B]`` losses from clean and adversarial logits ``[B,K]`` and labels ``y [B]``."""
    return boosted_cross_entropy(adv_logits, y) + lam * mart_divergence(logits, adv_logits, y)
