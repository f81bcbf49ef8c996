"""Cross-entropy on the adversarial examples: the loss of PGD-AT.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1.
"""

from torch import Tensor, nn

from buttress import Adv, Batch, Loss, hookimpl
from buttress.functional import cross_entropy
from buttress.kernels import lsc_cross_entropy, lsc_mean


class CrossEntropy:
    """``CE(f(x'), y)`` in nats, with hard or soft labels. The core's default loss."""

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        return Loss(cross_entropy(model(adv.x), batch.y))

    def masked_loss(
        self, model: nn.Module, batch: Batch, adv: Adv, c_min: float, inclusive: bool
    ) -> tuple[Tensor, Tensor]:
        """``lsc_mean`` of these losses; in one operation with them where labels are hard."""
        logits, y = model(adv.x), batch.y
        if y.dim() == 2:
            return lsc_mean(cross_entropy(logits, y), c_min, inclusive=inclusive)
        return lsc_cross_entropy(logits, y, c_min, inclusive=inclusive)
