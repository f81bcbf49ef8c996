"""The compiled medians, called as their pure-torch twins are; their shapes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from buttress.kernels.reference.medians import Middle


def median(tensors: Sequence[Tensor], even: Middle, out: Tensor | None) -> Tensor:
    if out is None:
        result: Tensor = torch.ops.buttress.median(tensors, even)
        return result
    torch.ops.buttress.median_into(out, tensors, even)
    return out


def median_many(lists: Sequence[Sequence[Tensor]], even: Middle, out: Sequence[Tensor] | None) -> list[Tensor]:
    flat, n = [tensor for versions in lists for tensor in versions], len(lists[0])
    if out is None:
        result: list[Tensor] = torch.ops.buttress.median_many(flat, n, even)
        return result
    torch.ops.buttress.median_many_into(list(out), flat, n, even)
    return list(out)


def register_fakes() -> None:
    """Shapes and dtypes of the operators, for torch.compile."""
    torch.library.register_fake("buttress::median", _fake_median)
    torch.library.register_fake("buttress::median_into", _fake_median_into)
    torch.library.register_fake("buttress::median_many", _fake_median_many)
    torch.library.register_fake("buttress::median_many_into", _fake_median_many_into)


def _fake_median(tensors: Sequence[Tensor], even: str) -> Tensor:
    return torch.empty_like(tensors[0])


def _fake_median_into(out: Tensor, tensors: Sequence[Tensor], even: str) -> None:
    return None


def _fake_median_many(tensors: Sequence[Tensor], n: int, even: str) -> list[Tensor]:
    return [torch.empty_like(tensor) for tensor in tensors[::n]]


def _fake_median_many_into(out: Sequence[Tensor], tensors: Sequence[Tensor], n: int, even: str) -> None:
    return None
