"""Check the arguments of the twins; describe tensors in error messages; refuse arguments that overlap in memory.

Compiled code makes the same checks with the same messages: ``csrc/common/tensors.h`` and the families' own.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def facts(tensor: Tensor) -> str:
    """``shape (3, 4), torch.float32 on cpu``."""
    return f"shape {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"


def expect_dtype(name: str, tensor: Tensor) -> None:
    """Raises ValueError unless the dtype is one of ``DTYPES``."""
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{name} has dtype {tensor.dtype}, expected float32, float64, float16 or bfloat16")


def fits(tensor: Tensor, other: Tensor) -> bool:
    """Whether shape, dtype and device are those of ``other``."""
    return tensor.shape == other.shape and tensor.dtype == other.dtype and tensor.device == other.device


def expect_length(who: str, name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a finite number of at least 0."""
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{who}: {name}: expected a finite number >= 0, got {float(value)}")


def expect_choice(who: str, name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        known = ", ".join(choices[:-1]) + f" or {choices[-1]}"
        raise ValueError(f"{who}: {name}: expected {known}, got {value!r}")


def expect_fitting(
    who: str, weights: Sequence[Tensor], lists: Mapping[str, Sequence[Tensor]], *, numbers: bool = True
) -> None:
    """Check lists of tensors against ``weights``.

    Raises:
        ValueError: weights on several devices, or, where ``numbers`` are expected, of another dtype than ``DTYPES``; a
            list of another length, or with a tensor of another shape, dtype or device. Names list and index.
    """
    for position, weight in enumerate(weights):
        if numbers:
            expect_dtype(f"{who}: weights[{position}]", weight)
        if weight.device != weights[0].device:
            raise ValueError(f"{who}: weights[{position}] is on {weight.device}, expected all on {weights[0].device}")
    for name, tensors in lists.items():
        if len(tensors) != len(weights):
            raise ValueError(f"{who}: expected as many {name} as weights ({len(weights)}), got {len(tensors)}")
        for position, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
            if not fits(tensor, weight):
                raise ValueError(
                    f"{who}: {name}[{position}] has {facts(tensor)}, expected {facts(weight)} as weights[{position}]"
                )


def expect_apart(who: str, written: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> None:
    """Check that no tensor that is written shares memory with another one.

    Args:
        who: the operation, for the message.
        written: tensors by their names in the message.
        read: likewise; these may share memory with one another.

    Raises:
        ValueError: one does; names both.
    """
    # A sweep over addresses. In the order of their first bytes, a tensor overlaps an earlier one where it begins before
    # the furthest end so far. Two such ends are kept, because tensors that are only read may overlap one another: a
    # written tensor is held against both, one that is read against the end of the written ones alone.
    spans = [(*_span(tensor), name, some is written) for some in (written, read) for name, tensor in some.items()]
    ends = {True: (0, ""), False: (0, "")}  # the furthest end, and its tensor: of those written, of those read
    for start, stop, name, is_written in sorted(spans, key=lambda span: span[:2]):
        for other_is_written, (end, other) in ends.items():
            if start < end and start < stop and (is_written or other_is_written):
                first, second = (name, other) if is_written else (other, name)
                raise ValueError(f"{who}: {first} overlaps {second} in memory; give it memory of its own")
        ends[is_written] = max(ends[is_written], (stop, name), key=lambda end: end[0])


def numbered(lists: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """All tensors of the lists, by names like ``weights[3]``."""
    return {f"{name}[{i}]": tensor for name, tensors in lists.items() for i, tensor in enumerate(tensors)}


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of a tensor and of the one after its last."""
    if tensor.numel() == 0 or tensor.is_meta:
        return 0, 0
    start, last = tensor.data_ptr(), tensor.numel() - 1
    if not tensor.is_contiguous():
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()
