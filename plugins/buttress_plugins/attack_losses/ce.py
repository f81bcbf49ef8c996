"""ce: the cross-entropy, the loss of PGD.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1.
"""

from torch import nn

from buttress import Batch, Context
from buttress.functional import InputLoss, attack_loss


class CE:
    """``-log p_y(x')``, with hard or soft labels."""

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return attack_loss("ce", model, batch.x, batch.y)
