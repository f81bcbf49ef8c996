"""Inputs in a box as the 8-bit numbers of image files, and back."""

import math

import torch
from torch import Tensor

Box = tuple[float, float] | None


def to_8bit(x: Tensor, box: Box = (0.0, 1.0)) -> Tensor:
    """``[B,C,H,W]`` int32 numbers, 0 at the lower end of ``box`` and 255 at the upper one, each the nearest to ``x``.

    Args:
        x: images ``[B,C,H,W]``, C 1 or 3.
        box: lower and upper bound of ``x``, as in ``ctx.threat.box``.

    Raises:
        ValueError: ``x`` has another shape, or the box has no bounds.
    """
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"expected images [B,C,H,W] with C 1 or 3, got x of shape {tuple(x.shape)}")
    low, high = _bounds(box)
    return ((x - low) * (255 / (high - low))).round_().to(torch.int32)


def from_8bit(image: Tensor, like: Tensor, box: Box = (0.0, 1.0)) -> Tensor:
    """The way back, in dtype and memory format of ``like``; in [0, 1] bit for bit as data sets of images are read.

    Raises:
        ValueError: the box has no bounds.
    """
    low, high = _bounds(box)
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return image.to(like.dtype, memory_format=layout).div_(255).mul_(high - low).add_(low).clamp_(low, high)


def _bounds(box: Box) -> tuple[float, float]:
    if box is None or math.inf in map(abs, box):
        raise ValueError(f"expected a threat.box with two bounds, which are black and white, got {box}")
    return box
