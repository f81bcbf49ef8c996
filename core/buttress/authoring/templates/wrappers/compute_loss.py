"""Focal weights: examples that the model classifies with confidence count less, whatever the loss.

Source: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", arXiv:1708.02002, equation 4.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from buttress import Loss, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Weighs the loss of each example by a power of the probability that it leaves to errors.

    Args:
        gamma: exponent of that probability.
    """

    gamma: Annotated[float, Ge(1)] = 2.0

    @hookimpl(wrapper=True)
    def compute_loss(self) -> Generator[None, Loss, Loss]:
        loss = yield  # the answer of the loss, or of the next wrapper
        return Loss(focal(loss.per_example, self.gamma), loss.penalty)


def focal(losses: Tensor, gamma: float) -> Tensor:
    """``(1 - exp(-l))^gamma l`` for each of the losses ``l [B]`` in nats, which are not negative."""
    return (-torch.expm1(-losses)) ** gamma * losses


def test_focal_known_values() -> None:
    losses = torch.tensor([0.0, 2.0]).log1p()  # probabilities 1 and 1/3
    torch.testing.assert_close(focal(losses, 2.0), torch.tensor([0.0, 4 / 9]) * losses)
