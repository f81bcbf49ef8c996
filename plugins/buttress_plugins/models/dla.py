"""DLA: a network of deep layer aggregation, for 32x32 images.

Source: Yu, Wang, Shelhamer, Darrell, "Deep Layer Aggregation", arXiv:1707.06484, section 3.2: a tree of residual blocks
whose root, a 1x1 convolution, joins the outputs of its last two blocks and of all smaller trees before them. The usual
CIFAR form: a stem of three 3x3 convolutions, trees of depth 1, 2, 2 and 1, and beside a tree of depth 2 one block more,
whose output the root takes too. Names are those of that form (``layer4.level_1.root.conv``), so that its files load.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

Count = Annotated[int, Ge(1)]


class Block(nn.Module):
    """A residual block: two 3x3 convolutions with batch norm, ReLU after the first and after the sum."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut.extend([nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Root(nn.Module):
    """Joins maps of equal size by a 1x1 convolution with batch norm and ReLU."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, *maps: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(torch.cat(maps, dim=1))))


class SmallTree(nn.Module):
    """A tree of depth 1: two blocks in a row, and a root that joins their outputs."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.root = Root(2 * width, width)
        self.left_node = Block(width_in, width, stride)
        self.right_node = Block(width, width)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left_node(x)
        joined: Tensor = self.root(left, self.right_node(left))
        return joined


class Tree(nn.Module):
    """A tree of depth 2: a small tree, two blocks after it, one block beside both, and a root that joins all four."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.root = Root(4 * width, width)
        self.level_1 = SmallTree(width_in, width, stride)
        self.prev_root = Block(width_in, width, stride)
        self.left_node = Block(width, width)
        self.right_node = Block(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tree = self.level_1(x)
        left = self.left_node(tree)
        joined: Tensor = self.root(self.prev_root(x), tree, left, self.right_node(left))
        return joined


class DLA(nn.Module):
    """Stem, four trees, average pool, classifier: ``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        in_channels: C.
        num_classes: K.
        width: number of channels of the first two convolutions.
    """

    def __init__(self, *, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.base = _convolution(in_channels, width)
        self.layer1 = _convolution(width, width)
        self.layer2 = _convolution(width, 2 * width)
        self.layer3 = SmallTree(2 * width, 4 * width, stride=1)
        self.layer4 = Tree(4 * width, 8 * width, stride=2)
        self.layer5 = Tree(8 * width, 16 * width, stride=2)
        self.layer6 = SmallTree(16 * width, 32 * width, stride=2)
        self.linear = nn.Linear(32 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer2(self.layer1(self.base(x)))
        out = self.layer6(self.layer5(self.layer4(self.layer3(out))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


def _convolution(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def dla(
    *,
    in_channels: Count,
    num_classes: Count,
    width: Count = 16,
) -> DLA:
    """DLA for 32x32 images, trees of 64 to 512 channels; 16.29 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        width: channels of the first convolution; the trees have 4, 8, 16 and 32 times that.
    """
    return DLA(in_channels=in_channels, num_classes=num_classes, width=width)
