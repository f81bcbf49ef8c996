"""A multilayer perceptron: for flat inputs and toy problems."""

from typing import Annotated

from annotated_types import Ge
from torch import nn


def mlp(
    *,
    in_features: Annotated[int, Ge(1)],
    num_classes: Annotated[int, Ge(1)],
    hidden: list[Annotated[int, Ge(1)]] = [64],  # noqa: B006  (read, never written)
    norm: bool = False,
) -> nn.Sequential:
    """Flatten, hidden layers with ReLU, and a linear classifier: ``[B,*]`` to logits ``[B,K]``.

    Args:
        in_features: elements of an input.
        num_classes: number of classes.
        hidden: widths of the hidden layers.
        norm: whether batch norm stands before each ReLU.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width_in = in_features
    for width in hidden:
        layers += [nn.Linear(width_in, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU()]
        width_in = width
    return nn.Sequential(*layers, nn.Linear(width_in, num_classes))
