"""margin: the best wrong logit minus the right one, which no confidence saturates.

Source: Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv:1608.04644, the loss f6 without
its bound.
"""

from typing import ClassVar

from torch import nn

from buttress import Batch, Context
from buttress.functional import InputLoss, attack_loss


class Margin:
    """``max_{k != y} z_k(x') - z_y(x')``, with hard labels."""

    refuses: ClassVar[dict[str, str]] = {"soft labels": "its loss margin is of one label against the others"}

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return attack_loss("margin", model, batch.x, batch.y)
