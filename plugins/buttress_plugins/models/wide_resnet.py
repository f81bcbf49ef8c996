"""Wide residual networks for 32x32 images.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", arXiv:1605.07146: a 3x3 stem of 16 channels, three groups of
pre-activation blocks with 16, 32 and 64 times ``widen`` channels, a final batch norm and a classifier. Initial weights
as in the code of TRADES and those after it: He's normal for the fan-out, no bias in the classifier. WRN-32 follows
Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, with ReLU.
"""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

Count = Annotated[int, Ge(1)]


class PaddedShortcut(nn.Module):
    """Averages over ``stride`` pixels and adds zero channels, half on either side: a shortcut without weights."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, missing = stride, width - width_in
        self.pad = (missing // 2, missing - missing // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, *self.pad))


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU; where the width changes, the shortcut follows the first."""

    def __init__(self, width_in: int, width: int, stride: int, learned_shortcut: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if width_in != width and learned_shortcut:
            self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
        elif width_in != width:
            self.shortcut = PaddedShortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(out))))
        return residual + shortcut


class WideResNet(nn.Module):
    """``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        blocks: number of blocks in each group.
        widen: factor on the widths 16, 32, 64.
        in_channels: C.
        num_classes: K.
        learned_shortcuts: whether shortcuts have 1x1 convolutions where the width changes, or else zero channels.
    """

    def __init__(
        self,
        *,
        blocks: int,
        widen: int,
        in_channels: int,
        num_classes: int,
        learned_shortcuts: bool = True,
    ) -> None:
        super().__init__()
        widths = [16 * widen, 32 * widen, 64 * widen]

        def group(width_in: int, width: int, stride: int) -> nn.Sequential:
            first = WideBlock(width_in, width, stride, learned_shortcuts)
            return nn.Sequential(first, *(WideBlock(width, width, 1, learned_shortcuts) for _ in range(blocks - 1)))

        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.block1 = group(16, widths[0], stride=1)
        self.block2 = group(widths[0], widths[1], stride=2)
        self.block3 = group(widths[1], widths[2], stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(F.relu(self.bn1(out)), 1).flatten(1))
        return logits


def wrn_28_10(
    *,
    in_channels: Count,
    num_classes: Count,
    widen: Count = 10,
) -> WideResNet:
    """WRN-28-10 for 32x32 images: four blocks a group; 36.5 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        widen: factor on the widths 16, 32, 64.
    """
    return WideResNet(blocks=4, widen=widen, in_channels=in_channels, num_classes=num_classes)


def wrn_34_10(
    *,
    in_channels: Count,
    num_classes: Count,
    widen: Count = 10,
) -> WideResNet:
    """WRN-34-10 for 32x32 images: five blocks a group; 46.2 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        widen: factor on the widths 16, 32, 64.
    """
    return WideResNet(blocks=5, widen=widen, in_channels=in_channels, num_classes=num_classes)


def wrn_32_10(
    *,
    in_channels: Count,
    num_classes: Count,
    widen: Count = 10,
) -> WideResNet:
    """WRN-32-10 for 32x32 images, after Madry et al.: WRN-34's blocks, shortcuts without weights; 45.9 million.

    32 is not 6 n + 4: the name counts no shortcut convolution; the shortcuts average and pad with zero channels.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        widen: factor on the widths 16, 32, 64.
    """
    return WideResNet(
        blocks=5,
        widen=widen,
        in_channels=in_channels,
        num_classes=num_classes,
        learned_shortcuts=False,
    )
