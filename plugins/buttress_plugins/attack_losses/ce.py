"""ce: the cross-entropy, the loss of PGD.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1.
"""

from torch import Tensor, nn

from buttress import Batch, Context
from buttress.functional import InputLoss, attack_loss, cross_entropy, relative_to


class CE:
    """``-log p_y(x')``, with hard or soft labels; towards a target t it is ``log p_t(x')``."""

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return attack_loss("ce", model, batch.x, batch.y)

    def targeted_loss(self, model: nn.Module, batch: Batch, targets: Tensor, ctx: Context) -> InputLoss:
        return lambda x_adv: -cross_entropy(relative_to(model(x_adv), targets), targets)
