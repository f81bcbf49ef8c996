"""VGG-16 with batch norm, for 32x32 images.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556,
configuration D. As in the usual CIFAR form, batch norm follows each convolution, and the three fully connected layers
are one linear classifier. Names are those of that form (``features.0``, ``classifier``), so that its files load.
"""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

Count = Annotated[int, Ge(1)]

# Factors on the width of the 3x3 convolutions, stage by stage; a 2x2 maximum ends each stage.
_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


class VGG(nn.Module):
    """Convolutions with batch norm and ReLU, average pool, classifier: ``[B,C,H,W]`` to logits ``[B,K]``.

    Args:
        in_channels: C.
        num_classes: K.
        width: number of channels of the first stage.
    """

    def __init__(self, *, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = in_channels
        for stage in _STAGES:
            for factor in stage:
                channels = factor * width
                layers += [nn.Conv2d(width_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                width_in = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return logits


def vgg16_bn(
    *,
    in_channels: Count,
    num_classes: Count,
    width: Count = 64,
) -> VGG:
    """VGG-16 with batch norm for images of at least 32x32; 14.73 million parameters.

    Args:
        in_channels: channels of the input.
        num_classes: number of classes.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times that.
    """
    return VGG(in_channels=in_channels, num_classes=num_classes, width=width)
