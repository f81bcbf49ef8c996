"""ALP: adversarial logit pairing.

Source: Kannan, Kurakin, Goodfellow, "Adversarial Logit Pairing", arXiv:1803.06373; as a row of the PIAT paper
(arXiv:2511.00836, eq. 8): the squared L2 distance of the raw logits beside the cross-entropy at x'. The weight of the
PIAT tables is not known; 0.5 is the value commonly used. The original trains on clean and adversarial examples:
``mixed``.
"""

from dataclasses import dataclass

from torch import nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.functional import cross_entropy
from buttress.settings import NonNegative, PerEpoch


@dataclass(eq=False, kw_only=True)
class ALP:
    """``CE(z(x'), y) + weight * ||z(x') - z(x)||^2``.

    Args:
        weight: weight of the pairing term.
        mixed: whether to take the mean of clean and adversarial cross-entropy in place of the adversarial one.
    """

    weight: PerEpoch[NonNegative] = 0.5
    mixed: bool = False

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        logits, adv_logits = model(batch.x), model(adv.x)
        losses = cross_entropy(adv_logits, batch.y)
        if self.mixed:
            losses = (losses + cross_entropy(logits, batch.y)) / 2
        return Loss(losses + ctx.value(self.weight) * (adv_logits - logits).square().sum(1))
