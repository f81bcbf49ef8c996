"""Pure torch: the fallback, and what compiled code is tested against."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.kernels.lsc import lsc_cross_entropy as lsc_cross_entropy
from buttress.kernels.lsc import lsc_mean as lsc_mean

Middle = Literal["lower", "upper", "mean"]
Norm = Literal["layer", "global"]

# Guards the division by the norm of a gradient that is zero (the constant of the public codes of AWP and RWP).
_TINY = 1e-20

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


def check_median(tensors: Sequence[Tensor], even: str, out: Tensor | None) -> None:
    """What both backends expect.

    Raises:
        ValueError: no tensors; shape, dtype or device differs (names the index); ``out`` overlaps an input.
    """
    check_even("median", even)
    _check_versions("median", tensors)
    if out is not None:
        _check_out("median: out", out, tensors[0])
        _check_apart("median", {"out": out}, {f"tensors[{i}]": tensor for i, tensor in enumerate(tensors)})


def check_median_many(lists: Sequence[Sequence[Tensor]], even: str, out: Sequence[Tensor] | None) -> None:
    """What both backends expect.

    Raises:
        ValueError: lists of different lengths or devices, or of tensors that do not fit; names the list and the index.
    """
    check_even("median_many", even)
    for k, versions in enumerate(lists):
        where = f"median_many: lists[{k}]"
        if len(versions) != len(lists[0]):
            raise ValueError(f"{where} has {len(versions)} tensors, expected {len(lists[0])}, as in lists[0]")
        _check_versions(where, versions)
        if versions[0].device != lists[0][0].device:
            raise ValueError(f"{where} is on {versions[0].device}, expected {lists[0][0].device}, as lists[0]")
    if out is None:
        return
    if len(out) != len(lists):
        raise ValueError(f"median_many: expected {len(lists)} tensors in out, one for each list, got {len(out)}")
    for k, into in enumerate(out):
        _check_out(f"median_many: out[{k}]", into, lists[k][0])
    inputs = {f"lists[{k}][{i}]": tensor for k, versions in enumerate(lists) for i, tensor in enumerate(versions)}
    _check_apart("median_many", {f"out[{k}]": into for k, into in enumerate(out)}, inputs)


def check_even(who: str, even: str) -> None:
    if even not in ("lower", "upper", "mean"):
        raise ValueError(f"{who}: even: expected lower, upper or mean, got {even!r}")


def _check_versions(who: str, tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise ValueError(f"{who}: expected at least one tensor, got none")
    first = tensors[0]
    if not first.is_floating_point():
        raise ValueError(f"{who}: tensors[0] has dtype {first.dtype}, expected a floating dtype")
    for position, tensor in enumerate(tensors):
        if tensor.shape != first.shape or tensor.dtype != first.dtype or tensor.device != first.device:
            raise ValueError(f"{who}: tensors[{position}] has {_facts(tensor)}, expected {_facts(first)}")


def _check_out(who: str, out: Tensor, like: Tensor) -> None:
    if out.shape != like.shape or out.dtype != like.dtype or out.device != like.device:
        raise ValueError(f"{who} has {_facts(out)}, expected {_facts(like)}")


def _check_apart(who: str, outs: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> None:
    """No output shares memory with an input or with another output: one pass over all of them, by address."""
    spans = sorted((*_span(t), name, name in outs) for some in (outs, inputs) for name, t in some.items())
    ends = {True: (0, ""), False: (0, "")}  # the furthest end so far, and whose it is: of outputs, of inputs
    for start, stop, name, is_out in spans:
        for other_is_out, (end, other) in ends.items():
            if start < end and (is_out or other_is_out):
                out, with_ = (name, other) if is_out else (other, name)
                raise ValueError(f"{who}: {out} overlaps {with_} in memory; give it memory of its own")
        ends[is_out] = max(ends[is_out], (stop, name))


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of a tensor and of the one after its last."""
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return 0, 0
    start, last = tensor.data_ptr(), tensor.numel() - 1
    if not tensor.is_contiguous():
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def _facts(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"


@torch.no_grad()
def relative_scales(
    weights: Sequence[Tensor], directions: Sequence[Tensor], gamma: float, norm: Norm = "layer"
) -> list[Tensor]:
    """See ``buttress.kernels.relative_scales``."""
    sizes, lengths = _norms(weights), _norms(directions)
    if norm == "global":
        sizes, lengths = ([torch.linalg.vector_norm(torch.stack(each))] * len(each) for each in (sizes, lengths))
    scales = [gamma * size / (length + _TINY) for size, length in zip(sizes, lengths, strict=True)]
    return [scale.to(direction.dtype) for scale, direction in zip(scales, directions, strict=True)]


@torch.no_grad()
def perturb_(weights: Sequence[Tensor], directions: Sequence[Tensor], gamma: float, norm: Norm = "layer") -> None:
    """See ``buttress.kernels.perturb_``."""
    if weights:
        scales = relative_scales(weights, directions, gamma, norm)
        torch._foreach_add_(list(weights), torch._foreach_mul(list(directions), scales))


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """L2 norms in at least float32."""
    if not tensors:
        return []
    wide = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    return list(torch._foreach_norm(list(tensors), dtype=wide))
