"""What error messages and checks say of tensors and of where they lie."""

from collections.abc import Mapping

from torch import Tensor


def facts(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"


def expect_apart(who: str, written: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> None:
    """No tensor that is written shares memory with another one: one pass over all of them, by address.

    Raises:
        ValueError: one does; names both.
    """
    spans = sorted((*_span(t), name, name in written) for some in (written, read) for name, t in some.items())
    ends = {True: (0, ""), False: (0, "")}  # the furthest end so far, and whose it is: of written ones, of others
    for start, stop, name, is_written in spans:
        for other_is_written, (end, other) in ends.items():
            if start < end and start < stop and (is_written or other_is_written):
                first, second = (name, other) if is_written else (other, name)
                raise ValueError(f"{who}: {first} overlaps {second} in memory; give it memory of its own")
        ends[is_written] = max(ends[is_written], (stop, name))


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of a tensor and of the one after its last."""
    if tensor.numel() == 0 or tensor.is_meta:
        return 0, 0
    start, last = tensor.data_ptr(), tensor.numel() - 1
    if not tensor.is_contiguous():
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()
