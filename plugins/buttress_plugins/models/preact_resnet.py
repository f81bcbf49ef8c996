"""Pre-activation residual networks.

Source: He et al., "Identity Mappings in Deep Residual Networks", arXiv:1603.05027; the 18-layer form for 32x32 images
that adversarial training uses (four stages of two basic blocks, stride 1 stem, final batch norm).
"""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

Count = Annotated[int, Ge(1)]


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU; the shortcut branches off after the first ReLU."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if stride != 1 or width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(out))))
        return residual + shortcut


class PreActResNet(nn.Module):
    """Stem, four stages, batch norm, global average pool, classifier: ``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        in_channels: C.
        num_classes: K.
        widths: channels of the four stages; the stem has the first.
        blocks: number of blocks in each stage.
        strides: stride of the first block of each stage.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        stages = zip((widths[0], *widths[:-1]), widths, blocks, strides, strict=True)
        self.layer1, self.layer2, self.layer3, self.layer4 = (_stage(*sizes) for sizes in stages)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(F.relu(self.bn(out)), 1).flatten(1))
        return logits


def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreActBlock(width_in, width, stride)
    return nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(blocks - 1)))


def preact_tiny(
    *,
    in_channels: Count,
    num_classes: Count,
    width: Count = 16,
) -> PreActResNet:
    """A PreActResNet for 8x8 digits: one block a stage, widths 16, 32, 64, 64; 151,802 parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        width: channels of the first stage; the others are 2, 4 and 4 times that.
    """
    widths = (width, 2 * width, 4 * width, 4 * width)
    return PreActResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        widths=widths,
        blocks=(1, 1, 1, 1),
        strides=(2, 1, 2, 1),
    )


def preact_resnet18(
    *,
    in_channels: Count,
    num_classes: Count,
    width: Count = 64,
) -> PreActResNet:
    """PreActResNet-18 for 32x32 images: two blocks a stage, widths 64 to 512; 11.17 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        width: channels of the first stage; the others are 2, 4 and 8 times that.
    """
    widths = (width, 2 * width, 4 * width, 8 * width)
    return PreActResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        widths=widths,
        blocks=(2, 2, 2, 2),
        strides=(1, 2, 2, 2),
    )


def preact_resnet34(
    *,
    in_channels: Count,
    num_classes: Count,
    width: Count = 64,
) -> PreActResNet:
    """PreActResNet-34 for 32x32 images: 3, 4, 6 and 3 blocks, widths 64 to 512; 21.28 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        width: channels of the first stage; each of the others has twice the one before.
    """
    return PreActResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        widths=(width, 2 * width, 4 * width, 8 * width),
        blocks=(3, 4, 6, 3),
        strides=(1, 2, 2, 2),
    )
