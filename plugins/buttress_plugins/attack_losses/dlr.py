"""dlr: the difference-of-logits ratio, a margin that no scale of the logits changes.

Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
arXiv:2003.01690, eq. 6, and eq. 7 for targets. As in the public code, 1e-12 is added to the denominator.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from buttress import Batch, Context, expect_classes
from buttress.functional import InputLoss, margin

GUARD = 1e-12  # against a division by zero, in units of the logits


class DLR:
    """``(max_{k != y} z_k - z_y) / (z_(1) - z_(3))``, the logits z at x' sorted from the largest; hard labels.

    Towards a target t it is ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``. It needs 3 classes, and 4 with targets.
    """

    refuses: ClassVar[dict[str, str]] = {"soft labels": "its loss dlr is of one label against the others"}
    fewest_classes = 3
    fewest_classes_targeted = 4

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return lambda x_adv: dlr(model(x_adv), batch.y)

    def targeted_loss(self, model: nn.Module, batch: Batch, targets: Tensor, ctx: Context) -> InputLoss:
        return lambda x_adv: targeted_dlr(model(x_adv), batch.y, targets)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` ratios of ``logits [B,K]`` with labels ``y [B]``; positive is misclassified.

    Raises:
        ValueError: fewer than 3 classes.
    """
    expect_classes("dlr", logits.shape[1], DLR.fewest_classes)
    first, _, third = logits.topk(3).values.unbind(1)
    return margin(logits, y) / (first - third + GUARD)


def targeted_dlr(logits: Tensor, y: Tensor, targets: Tensor) -> Tensor:
    """``[B]`` ratios of ``logits [B,K]`` with labels ``y [B]`` towards the classes ``targets [B]``.

    Raises:
        ValueError: fewer than 4 classes.
    """
    expect_classes("dlr", logits.shape[1], DLR.fewest_classes_targeted, targeted=True)
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    own, target = logits.gather(1, torch.stack([y, targets], 1)).unbind(1)
    ratio: Tensor = (target - own) / (first - (third + fourth) / 2 + GUARD)
    return ratio
