"""Cross-entropy on the adversarial examples: the loss of PGD-AT.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor, nn

from buttress import Adv, Batch, Loss, hookimpl
from buttress.functional import cross_entropy
from buttress.kernels import lsc_cross_entropy, lsc_mean


@dataclass(eq=False, kw_only=True)
class CrossEntropy:
    """``CE(f(x'), y)`` in nats, with hard or soft labels. The core's default loss.

    Args:
        label_smoothing: share of each label that this loss spreads over all classes; an attack on ``ce`` has the labels
            as they are.
    """

    label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        return Loss(cross_entropy(model(adv.x), batch.y, self.label_smoothing))

    def masked_loss(
        self, model: nn.Module, batch: Batch, adv: Adv, c_min: float, inclusive: bool
    ) -> tuple[Tensor, Tensor]:
        """``lsc_mean`` of these losses; in one operation with them where labels are hard and stay so."""
        logits, y = model(adv.x), batch.y
        if y.dim() == 2 or self.label_smoothing:
            return lsc_mean(cross_entropy(logits, y, self.label_smoothing), c_min, inclusive=inclusive)
        return lsc_cross_entropy(logits, y, c_min, inclusive=inclusive)
