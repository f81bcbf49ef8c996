"""MART: misclassified examples weigh more.

Source: Wang, Zou, Yi, Bailey, Ma, Gu, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
ICLR 2020; with the constants of the public code (1.0001, 1.0000001, 1e-12), which move the loss visibly
where a probability is near 0 or 1. As there, the cross-entropy itself has no guard: 1e-12 in its logarithm would take
the gradient from the most misclassified examples. The attack is ``pgd: {start: gaussian}``.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from buttress import Adv, Batch, Context, Loss, PluginError, hookimpl
from buttress.functional import boosted_cross_entropy, expect_labels, mart_divergence
from buttress.settings import NonNegative, PerEpoch

_BOOSTED = "boosted cross-entropy sets the label's class against the best other one"
NO_SOFT_LABELS = {"soft labels": f"its {_BOOSTED}"}


@dataclass(eq=False, kw_only=True)
class MART:
    """``BCE(p(x'), y) + lam * KL(p(x) || p(x')) * (1 - p_y(x))``, with labels ``[B]``.

    Args:
        lam: weight of the second term: 5 for ResNet-18, 6 for wide ResNets.
        label_smoothing: 0 alone: the boosted cross-entropy is defined for the class of a label, not for shares.
    """

    refuses = NO_SOFT_LABELS

    lam: PerEpoch[NonNegative] = 5.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.label_smoothing != 0:
            raise PluginError(
                f"expected 0, got {self.label_smoothing}: MART's {_BOOSTED}, which a label with shares of all classes "
                "does not name, and neither the paper nor its code smooths; take trades or cross_entropy",
                key="label_smoothing",
            )

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        y = expect_labels(batch.y)
        logits, adv_logits = model(batch.x), model(adv.x)
        return Loss(mart(logits, adv_logits, y, ctx.value(self.lam)))


def mart(logits: Tensor, adv_logits: Tensor, y: Tensor, lam: float) -> Tensor:
    """``[B]`` losses from clean and adversarial logits ``[B,K]`` and labels ``y [B]``."""
    return boosted_cross_entropy(adv_logits, y) + lam * mart_divergence(logits, adv_logits, y)
