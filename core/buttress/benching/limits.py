"""The limits of a machine: matrix products in a precision, and copies of memory, as fast as it makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from buttress.nn.precision import arithmetic

COPY = "copy of memory"
"""Name of the limit of copies."""

_DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "float64": torch.float64}
_SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices: so many that a product reaches the limit."""
_COPIED = {"cpu": 256 * 2**20, "cuda": 2**30}
"""Bytes that are copied: more than caches hold."""


@dataclass(frozen=True)
class Limit:
    """Work that a machine makes as fast as it can.

    Args:
        name: name of the work, such as ``"matrix product, bf16"``.
        amount: floating-point operations, or bytes read and written, of one call.
        call: makes it once.
    """

    name: str
    amount: int
    call: Callable[[], object]


def product_name(word: str) -> str:
    """The name of the limit of matrix products in the precision ``word``."""
    return f"matrix product, {word}"


def matrix_product(word: str, device: torch.device) -> Limit:
    """The product of two large square matrices in the precision ``word``."""
    side = _SIDE[device.type]
    one, other = (torch.randn(side, side, device=device).to(_DTYPES[word]) for _ in range(2))
    out = torch.empty_like(one)

    def multiply() -> None:
        with arithmetic(word, device):
            torch.mm(one, other, out=out)

    return Limit(product_name(word), 2 * side**3, multiply)


def memory_copy(device: torch.device) -> Limit:
    """The copy of a large tensor; it reads and writes each byte."""
    source = torch.ones(_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Limit(COPY, 2 * source.numel(), lambda: target.copy_(source))
