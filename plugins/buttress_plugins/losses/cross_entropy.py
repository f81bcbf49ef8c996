"""Cross-entropy on the adversarial examples: the loss of PGD-AT.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1.
"""

from torch import nn

from buttress import Adv, Batch, Loss, hookimpl
from buttress.functional import cross_entropy


class CrossEntropy:
    """``CE(f(x'), y)`` in nats, with hard or soft labels. The core's default loss."""

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        return Loss(cross_entropy(model(adv.x), batch.y))
