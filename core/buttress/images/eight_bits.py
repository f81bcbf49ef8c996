"""Inputs in [0, 1] as the 8-bit numbers of image files, and back."""

import torch
from torch import Tensor


def to_8bit(x: Tensor) -> Tensor:
    """``[B,C,H,W]`` int32 numbers 0 to 255, the nearest to 255 times ``x``, which lies in [0, 1]."""
    return (x * 255).round_().to(torch.int32)


def from_8bit(image: Tensor, like: Tensor) -> Tensor:
    """``image / 255`` in dtype and memory format of ``like``; bit for bit as data sets of 8-bit images are read."""
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return image.to(like.dtype, memory_format=layout).div_(255)
