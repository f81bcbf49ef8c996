"""margin: the best wrong logit minus the right one, which no confidence saturates.

Source: Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv:1608.04644, the loss f6 without
its bound.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from buttress import Batch, Context
from buttress.functional import InputLoss, attack_loss


class Margin:
    """``max_{k != y} z_k(x') - z_y(x')``, with hard labels; towards a target t it is ``z_t(x') - z_y(x')``."""

    refuses: ClassVar[dict[str, str]] = {"soft labels": "its loss margin is of one label against the others"}

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return attack_loss("margin", model, batch.x, batch.y)

    def targeted_loss(self, model: nn.Module, batch: Batch, targets: Tensor, ctx: Context) -> InputLoss:
        def lead(x_adv: Tensor) -> Tensor:
            pair: Tensor = model(x_adv).gather(1, torch.stack([batch.y, targets], 1))
            return pair[:, 1] - pair[:, 0]

        return lead
