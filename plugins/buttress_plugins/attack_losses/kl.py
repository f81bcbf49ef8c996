"""kl: the divergence from the clean prediction, the loss of the attack of TRADES.

Source: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy",
arXiv:1901.08573.
"""

from torch import nn

from buttress import Batch, Context
from buttress.functional import InputLoss, attack_loss


class KL:
    """``KL(p(x) || p(x'))``, with p(x) held fixed. One forward of x beside those of the attack."""

    flat_at_x = True
    takes = ("unlabelled examples",)

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return attack_loss("kl", model, batch.x, batch.y)
