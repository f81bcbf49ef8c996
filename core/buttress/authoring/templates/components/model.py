"""Small convolutional network: two convolutions with batch norm, for images of any size and any number of channels."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn


class Example(nn.Module):
    """Images ``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        num_classes: number of classes; the run gives it.
        in_channels: number of channels of an image.
        width: number of channels of the first convolution; the second one has twice as many.
    """

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Ge(1)],
        in_channels: Annotated[int, Ge(1)] = 1,
        width: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(block(in_channels, width), block(width, 2 * width))
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean((2, 3)))
        return logits


def block(width_in: int, width_out: int) -> nn.Sequential:
    """A convolution, batch norm and ReLU; half the height and width, rounded up."""
    convolution = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), nn.ReLU())


def test_logits_have_a_column_for_each_class() -> None:
    for size in (8, 32):
        logits = Example(num_classes=10, in_channels=3, width=4)(torch.rand(2, 3, size, size))
        assert logits.shape == (2, 10)


def test_block_halves_the_image() -> None:
    assert block(1, 2)(torch.rand(2, 1, 7, 8)).shape == (2, 2, 4, 4)
