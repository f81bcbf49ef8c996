"""Blocks of tensors in files: which elements are read together, and the memory that a worker reads them into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from buttress.storage.tensor_file import Entry

# Elements of a block: N rows of 128 KiB (float32) stay in the processor's cache between reading and reducing, one
# system call for each is cheap, and no reduction starts threads of its own for so few.
BLOCK_SIZE = 1 << 15

# Bytes of each file that the system is asked to have ready: a few requests of a disk's best size.
AHEAD = 1 << 20


@dataclass(frozen=True)
class Block:
    """Elements ``start`` to ``stop`` of tensor ``name``; ``ahead`` tells whether its worker asks for the next part."""

    name: str
    dtype: torch.dtype
    start: int
    stop: int
    nbytes: int
    ahead: bool


def blocks_of(entries: Mapping[str, Entry], size: int) -> Iterator[Block]:
    """Yield all blocks of ``size`` elements, tensor by tensor; ``ahead`` is true for one block per ``AHEAD`` bytes."""
    done = 0
    for name, entry in entries.items():
        for start in range(0, entry.numel, size):
            stop = min(start + size, entry.numel)
            nbytes = (stop - start) * entry.dtype.itemsize
            yield Block(name, entry.dtype, start, stop, nbytes, done // AHEAD != (done + nbytes) // AHEAD)
            done += nbytes


class BlockRows:
    """The buffer of a worker: N rows of ``nbytes`` bytes, one for the result, and ``spare`` bytes for a row as read.

    Each row begins at another offset in its page: rows at one offset would push each other's lines out of the
    first-level cache while they are reduced.
    """

    LINE = 64

    def __init__(self, n: int, nbytes: int, spare: int = 0) -> None:
        stride = (-(-nbytes // self.LINE) | 1) * self.LINE  # odd in lines: 64 rows lie at 64 offsets
        self._rows = list(torch.empty((n + 1) * stride, dtype=torch.uint8).view(n + 1, stride))
        self.spare = torch.empty(spare, dtype=torch.uint8)
        self._shape: tuple[torch.dtype, int] | None = None
        self._views: list[memoryview] = []
        self._values: list[Tensor] = []

    @classmethod
    def nbytes(cls, n: int, nbytes: int) -> int:
        """Return the most bytes that such a buffer takes."""
        return (n + 1) * (nbytes + 2 * cls.LINE)

    def shaped(self, block: Block) -> tuple[list[memoryview], list[Tensor]]:
        """Return the rows as bytes and as values of a block, the row for the result last."""
        shape = block.dtype, block.nbytes
        if shape != self._shape:  # most blocks are like the previous one
            self._values = [row[: block.nbytes].view(block.dtype) for row in self._rows]
            self._views = [row[: block.nbytes].numpy().data for row in self._rows]
            self._shape = shape
        return self._views, self._values


def share_of(budget: int, n: int, itemsize: int, scratch: int) -> tuple[int, int]:
    """Return the numbers of workers, and of elements of a block, that a budget in bytes allows.

    Raises:
        ValueError: the budget is too small for one element, which takes ``scratch`` bytes beside its rows.
    """

    def nbytes(size: int) -> int:
        return BlockRows.nbytes(n, size * itemsize) + scratch * size

    workers = max(1, min(torch.get_num_threads(), budget // nbytes(BLOCK_SIZE)))  # several only with whole blocks
    size = min(BLOCK_SIZE, (budget - nbytes(0)) // (nbytes(1) - nbytes(0)))
    if size < 1:
        raise ValueError(f"budget: expected at least {nbytes(1):,} bytes for {n} files, got {budget:,}")
    return workers, size
