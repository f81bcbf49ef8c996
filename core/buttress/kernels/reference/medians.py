"""Medians in pure torch."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Middle = Literal["lower", "upper", "mean"]

# Elements of one [N, chunk] working block: 4 MiB of float32, within the second-level caches' reach.
_BLOCK = 1 << 20


def median(tensors: Sequence[Tensor], even: Middle = "lower", out: Tensor | None = None) -> Tensor:
    """See ``buttress.kernels.median``. Memory beyond inputs and output: three blocks of 4 MiB (float32)."""
    first = tensors[0]
    if out is None:
        out = torch.empty_like(first, memory_format=torch.contiguous_format)
    flat = [tensor.reshape(-1) for tensor in tensors]
    result = out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
    target = result.view(-1)
    chunk = max(1, _BLOCK // len(flat))
    for start in range(0, first.numel(), chunk):
        block = torch.stack([tensor[start : start + chunk] for tensor in flat])
        target[start : start + chunk] = _middle(block, even)
    return out if result is out else out.copy_(result)


def _middle(block: Tensor, even: Middle) -> Tensor:
    """The median of ``block [N, chunk]`` over N."""
    n = len(block)
    lower = block.median(dim=0).values  # the lower middle; NaN if any value is NaN
    if even == "lower" or n % 2 == 1:
        return lower
    upper = -(-block).median(dim=0).values
    if even == "upper":
        return upper
    wide = block.dtype if block.dtype == torch.float64 else torch.float32  # a half type is rounded once
    return (lower.to(wide) * 0.5 + upper.to(wide) * 0.5).to(block.dtype)


def median_many(
    lists: Sequence[Sequence[Tensor]], even: Middle = "lower", out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """See ``buttress.kernels.median_many``."""
    outs = out if out is not None else [None] * len(lists)
    return [median(versions, even, into) for versions, into in zip(lists, outs, strict=True)]
