"""Wide residual networks for 32x32 images.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", arXiv:1605.07146: a 3x3 stem of 16 channels, three groups of
pre-activation blocks with 16, 32 and 64 times ``widen`` channels, a final batch norm and a classifier. Initial weights
as in the code of TRADES and those after it: He's normal for the fan-out, no bias in the classifier. WRN-32 follows
Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, with ReLU. SiLU and the
padding at the end follow Gowal et al., "Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial
Examples", arXiv:2010.03593, section 4.5, and its code.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from buttress import ModelError

Count = Annotated[int, Ge(1)]
Activation = Literal["relu", "silu", "swish"]
Padding = Literal["both", "end"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "swish": F.silu}


class PaddedShortcut(nn.Module):
    """Averages over ``stride`` pixels and adds zero channels, half on either side: a shortcut without weights."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, missing = stride, width - width_in
        self.pad = (missing // 2, missing - missing // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, *self.pad))


class PaddedConv(nn.Conv2d):
    """A convolution that pads each side at its end alone, as TensorFlow's ``SAME`` does for 3x3 and stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and activation; a shortcut of another width follows the first.

    Args:
        width_in: number of channels of the input.
        width: number of channels of the output.
        stride: stride of the first convolution.
        shortcut: layer from the first activation to the output; None adds the input itself.
        activation: name of the activation.
        padding: sides that the first convolution pads where its stride is 2.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        activation: Activation,
        padding: Padding,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.bn1 = nn.BatchNorm2d(width_in)
        at_end = stride == 2 and padding == "end"
        self.conv1 = (PaddedConv if at_end else nn.Conv2d)(width_in, width, 3, stride, 0 if at_end else 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        activate = _ACTIVATIONS[self.activation]
        out = activate(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        residual: Tensor = self.conv2(activate(self.bn2(self.conv1(out))))
        return residual + shortcut


class WideResNet(nn.Module):
    """``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        blocks: number of blocks in each group.
        widen: factor on the widths 16, 32, 64.
        in_channels: C.
        num_classes: K.
        learned_shortcuts: whether shortcuts have 1x1 convolutions where the width changes, or else zero channels.
        activation: name of the activation.
        padding: sides that a 3x3 convolution of stride 2 pads.
    """

    def __init__(
        self,
        *,
        blocks: int,
        widen: int,
        in_channels: int,
        num_classes: int,
        learned_shortcuts: bool = True,
        activation: Activation = "relu",
        padding: Padding = "both",
    ) -> None:
        super().__init__()
        self.activation = activation
        widths = [16 * widen, 32 * widen, 64 * widen]

        def block(width_in: int, width: int, stride: int) -> WideBlock:
            shortcut: nn.Module | None = None
            if width_in != width and learned_shortcuts:
                shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
            elif width_in != width:
                shortcut = PaddedShortcut(width_in, width, stride)
            return WideBlock(width_in, width, stride, shortcut, activation, padding)

        def group(width_in: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(block(width_in, width, stride), *(block(width, width, 1) for _ in range(blocks - 1)))

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
        out = self.bn1(self.block3(self.block2(self.block1(self.conv1(x)))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(_ACTIVATIONS[self.activation](out), 1).flatten(1))
        return logits


def wrn(
    *,
    in_channels: Count,
    num_classes: Count,
    depth: Count = 28,
    widen: Count = 10,
    activation: Activation = "relu",
    padding: Padding = "both",
) -> WideResNet:
    """WRN-depth-widen for 32x32 images: 28-10, 34-20, 70-16, 82-8, 94-16 and all others.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        depth: number of layers, 6 n + 4 for n blocks in each of the three groups.
        widen: factor on the widths 16, 32, 64.
        activation: ``relu``, or ``silu``, which is also called ``swish``.
        padding: sides that a 3x3 convolution of stride 2 pads: ``both`` (TRADES, AWP), or ``end`` alone, as in
            DeepMind's code and the networks of RobustBench that follow it.

    Raises:
        ModelError: depth is not 6 n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ModelError(
            f"wrn: depth: expected 6 n + 4 with n blocks in each group, got {depth}; the nearest are "
            f"{6 * max(blocks, 1) + 4} and {6 * max(blocks, 1) + 10}"
        )
    return WideResNet(
        blocks=blocks,
        widen=widen,
        in_channels=in_channels,
        num_classes=num_classes,
        activation=activation,
        padding=padding,
    )


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
