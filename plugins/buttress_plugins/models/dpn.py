"""DPN-26: a dual path network for 32x32 images.

Source: Chen, Li, Xiao, Jin, Yan, Feng, "Dual Path Networks", arXiv:1707.01629, section 3.3: the first channels of a
block's output are added to its input, as in a residual network, and the others appended to it, as in a dense one. The
usual CIFAR form: a 3x3 stem, two blocks in each of four stages, and the stage sizes of DPN-92 (table 1, 32 groups of
3 channels). Names are those of that form (``layer1.0.conv1``, ``linear``), so that its files load.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn


class DualPathBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions, each with batch norm: ``[B,width_in,H,W]`` to ``[B,width,h,w]``.

    ``width`` is ``residual + 2 * dense`` where the shortcut is learned, and else ``width_in + dense``.

    Args:
        width_in: number of channels of the input.
        inner: number of channels of the 3x3 convolution.
        residual: number of channels of the residual path.
        dense: number of channels that the block appends.
        groups: number of groups of the 3x3 convolution.
        stride: stride of the 3x3 convolution.
        learned_shortcut: whether the shortcut is a 1x1 convolution with batch norm, or the input itself.
    """

    def __init__(
        self,
        *,
        width_in: int,
        inner: int,
        residual: int,
        dense: int,
        groups: int,
        stride: int,
        learned_shortcut: bool,
    ) -> None:
        super().__init__()
        self.residual, width = residual, residual + dense
        self.conv1 = nn.Conv2d(width_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if learned_shortcut:
            self.shortcut.extend([nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        added, appended = self.bn3(self.conv3(out)).tensor_split([self.residual], dim=1)
        kept, earlier = self.shortcut(x).tensor_split([self.residual], dim=1)
        return F.relu(torch.cat([kept + added, earlier, appended], dim=1))


class DPN(nn.Module):
    """Stem, four stages of two blocks, average pool, classifier: ``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        in_channels: C.
        num_classes: K.
        groups: number of groups of the 3x3 convolutions; all widths are multiples of a quarter of it.
    """

    def __init__(self, *, in_channels: int, num_classes: int, groups: int) -> None:
        super().__init__()
        width = 2 * groups
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        for stage, quarters in enumerate((2, 4, 3, 16)):  # a block appends that many quarters of ``groups`` channels
            inner, residual, dense = 3 * groups * 2**stage, 8 * groups * 2**stage, quarters * groups // 4
            blocks = []
            for number in range(2):
                blocks.append(
                    DualPathBlock(
                        width_in=width,
                        inner=inner,
                        residual=residual,
                        dense=dense,
                        groups=groups,
                        stride=2 if number == 0 and stage > 0 else 1,
                        learned_shortcut=number == 0,
                    )
                )
                width = residual + (number + 2) * dense
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


def dpn26(
    *,
    in_channels: Annotated[int, Ge(1)],
    num_classes: Annotated[int, Ge(1)],
    groups: Annotated[int, Ge(2)] = 32,
) -> DPN:
    """DPN-26 for 32x32 images; 11.57 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        groups: number of groups of the 3x3 convolutions; the widths of all layers are proportional to it.
    """
    return DPN(in_channels=in_channels, num_classes=num_classes, groups=groups)
