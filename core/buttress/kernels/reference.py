"""Pure torch: the fallback, and what compiled code is tested against."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.kernels._memory import facts as _facts
from buttress.kernels._memory import span as _span
from buttress.kernels.reference_perturb import accumulate_, ascend_, perturb_, restore_, unperturb_

__all__ = ["accumulate_", "ascend_", "check_median", "lsc_mean", "median", "perturb_", "restore_", "unperturb_"]

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


def check_median(tensors: Sequence[Tensor], even: str, out: Tensor | None) -> None:
    """What both backends expect.

    Raises:
        ValueError: no tensors; shape, dtype or device differs (names the index); ``out`` overlaps an input.
    """
    if even not in ("lower", "upper", "mean"):
        raise ValueError(f"median: even: expected lower, upper or mean, got {even!r}")
    if not tensors:
        raise ValueError("median: expected at least one tensor, got none")
    first = tensors[0]
    if not first.is_floating_point():
        raise ValueError(f"median: tensors[0] has dtype {first.dtype}, expected a floating dtype")
    for position, tensor in enumerate(tensors):
        if tensor.shape != first.shape or tensor.dtype != first.dtype or tensor.device != first.device:
            raise ValueError(f"median: tensors[{position}] has {_facts(tensor)}, expected {_facts(first)}")
    if out is None:
        return
    if out.shape != first.shape or out.dtype != first.dtype or out.device != first.device:
        raise ValueError(f"median: out has {_facts(out)}, expected {_facts(first)}")
    low, high = _span(out)
    for position, tensor in enumerate(tensors):
        start, stop = _span(tensor)
        if start < high and low < stop:
            raise ValueError(f"median: out overlaps tensors[{position}] in memory; give it memory of its own")


def lsc_mean(losses: Tensor, c_min: float, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """See ``buttress.kernels.lsc_mean``."""
    kept = losses <= c_min if inclusive else losses < c_min
    return torch.where(kept, losses, 0.0).sum() / len(losses), kept.sum()
