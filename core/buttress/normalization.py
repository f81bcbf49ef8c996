"""Normalisation as a model's first layer, so that eps stays in units of the raw input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel of ``x [B,C,H,W]``.

    Args:
        mean: one value a channel.
        std: one value a channel, not zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalization(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> nn.Module:
    """``Normalize``, or the identity where neither ``mean`` nor ``std`` is given.

    Raises:
        ValueError: only one of them, or not one value a channel.
    """
    if mean is None and std is None:
        return nn.Identity()
    if mean is None or std is None or len(mean) != len(std):
        raise ValueError("mean and std: expected both, one value a channel, or neither")
    if len(mean) != channels:
        raise ValueError(f"mean: expected {channels} values, one a channel, got {len(mean)}")
    return Normalize(mean, std)
