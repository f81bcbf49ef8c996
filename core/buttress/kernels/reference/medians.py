"""Medians in pure torch."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.kernels.reference.checks import expect_apart, expect_choice, expect_dtype, facts, fits

Middle = Literal["lower", "upper", "mean"]

# Elements of one [N, chunk] working block: 4 MiB of float32, within the second-level caches' reach.
_BLOCK = 1 << 20


def median(tensors: Sequence[Tensor], even: Middle) -> Tensor:
    """See ``buttress.kernels.median``."""
    check_median(tensors, even)
    out = _empty_like(tensors[0])
    _fill(out, tensors, even)
    return out


def median_out(tensors: Sequence[Tensor], even: Middle, out: Tensor) -> None:
    """See ``buttress.kernels.median``. Memory beyond inputs and output: three blocks of 4 MiB (float32)."""
    check_median(tensors, even)
    check_median_out(tensors, out)
    expect_apart("median", {"out": out}, {f"tensors[{i}]": tensor for i, tensor in enumerate(tensors)})
    _fill(out, tensors, even)


def median_many(tensors: Sequence[Tensor], n: int, even: Middle) -> list[Tensor]:
    """See ``buttress.kernels.median_many``; ``tensors`` are the n versions of the first tensor, of the second, ..."""
    check_median_many(tensors, n, even)
    outs = [_empty_like(versions[0]) for versions in _lists(tensors, n)]
    for versions, out in zip(_lists(tensors, n), outs, strict=True):
        _fill(out, versions, even)
    return outs


def median_many_out(tensors: Sequence[Tensor], n: int, even: Middle, out: Sequence[Tensor]) -> None:
    """See ``median_many``."""
    check_median_many(tensors, n, even)
    check_median_many_out(tensors, n, out)
    inputs = {f"lists[{i // n}][{i % n}]": tensor for i, tensor in enumerate(tensors)}
    expect_apart("median_many", {f"out[{k}]": into for k, into in enumerate(out)}, inputs)
    for versions, into in zip(_lists(tensors, n), out, strict=True):
        _fill(into, versions, even)


def check_median(tensors: Sequence[Tensor], even: str) -> None:
    """Raises ValueError: no tensors, or shape, dtype or device differs (names the index)."""
    expect_choice("median", "even", even, ("lower", "upper", "mean"))
    _check_versions("median", tensors)


def check_median_out(tensors: Sequence[Tensor], out: Tensor) -> None:
    """Raises ValueError: ``out`` is not like the tensors."""
    _check_out("median: out", out, tensors[0])


def check_median_many(tensors: Sequence[Tensor], n: int, even: str) -> None:
    """Raises ValueError: no tensors, or lists of tensors that do not fit, or on several devices (names list, index)."""
    expect_choice("median_many", "even", even, ("lower", "upper", "mean"))
    if n < 1 or not tensors:
        raise ValueError("median_many: lists[0]: expected at least one tensor, got none")
    if len(tensors) % n:
        raise ValueError(f"median_many: expected a multiple of n = {n} tensors, got {len(tensors)}")
    for k, versions in enumerate(_lists(tensors, n)):
        where = f"median_many: lists[{k}]"
        _check_versions(where, versions)
        if versions[0].device != tensors[0].device:
            raise ValueError(f"{where} is on {versions[0].device}, expected {tensors[0].device}, as lists[0]")


def check_median_many_out(tensors: Sequence[Tensor], n: int, out: Sequence[Tensor]) -> None:
    """Raises ValueError: not one tensor for each list, like that list's."""
    lists = _lists(tensors, n)
    if len(out) != len(lists):
        raise ValueError(f"median_many: expected {len(lists)} tensors in out, one for each list, got {len(out)}")
    for k, (into, versions) in enumerate(zip(out, lists, strict=True)):
        _check_out(f"median_many: out[{k}]", into, versions[0])


def _lists(tensors: Sequence[Tensor], n: int) -> list[Sequence[Tensor]]:
    return [tensors[start : start + n] for start in range(0, len(tensors), n)]


def _check_versions(who: str, tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise ValueError(f"{who}: expected at least one tensor, got none")
    expect_dtype(f"{who}: tensors[0]", tensors[0])
    for position, tensor in enumerate(tensors):
        if not fits(tensor, tensors[0]):
            raise ValueError(f"{who}: tensors[{position}] has {facts(tensor)}, expected {facts(tensors[0])}")


def _check_out(who: str, out: Tensor, like: Tensor) -> None:
    if not fits(out, like):
        raise ValueError(f"{who} has {facts(out)}, expected {facts(like)}")


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _fill(out: Tensor, tensors: Sequence[Tensor], even: Middle) -> None:
    """Put the median of N tensors into ``out``, in chunks."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    result = out if out.is_contiguous() else _empty_like(out)
    target = result.view(-1)
    chunk = max(1, _BLOCK // len(flat))
    for start in range(0, target.numel(), chunk):
        block = torch.stack([tensor[start : start + chunk] for tensor in flat])
        target[start : start + chunk] = _middle(block, even)
    if result is not out:
        out.copy_(result)


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
