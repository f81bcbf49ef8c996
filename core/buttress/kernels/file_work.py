"""The work on all blocks of N sources of weights, for several workers: read, convert, reduce, put in place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import torch
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.kernels.agreement import TensorVersions
from buttress.kernels.backend import operation
from buttress.kernels.blocks import AHEAD, Block, BlockRows, blocks_of, share_of
from buttress.storage.weights_source import StoredTensor

Integers = Literal["last", "equal"]
Progress = Callable[[int, int], object]
Put = Callable[[Block, Tensor], object]
"""A function that puts the result of a block in its place."""


@dataclass(frozen=True)
class Reduction:
    """A function by which N values become one.

    Args:
        reduce: function that fills ``out [B]`` from N rows ``[B]``.
        scratch: function from N and the bytes of a value to the bytes of working memory that an element takes.
        in_order: whether the blocks are reduced one after another, in the order of the first file.
    """

    reduce: Callable[[Sequence[Tensor], Tensor], object]
    scratch: Callable[[int, int], int]
    in_order: bool = False


class FileWork:
    """The work on all blocks of the versions of tensors.

    Args:
        versions: the versions of each tensor, N >= 1 of each.
        reduction: reduction for floating-point tensors.
        integers: rule for integer and bool tensors.
        budget: bytes of working memory.
        progress: function that is called with the number of bytes read so far and in all, by one thread at a time.

    Raises:
        ValueError: the budget is too small for one element.
    """

    def __init__(
        self,
        versions: Mapping[str, TensorVersions],
        reduction: Reduction,
        integers: Integers,
        budget: int,
        progress: Progress | None,
    ) -> None:
        self._versions, self._reduction, self._integers = versions, reduction, integers
        every = list(versions.values())
        self._n = max((len(each.stored) for each in every), default=0)
        itemsize = max((each.work.dtype.itemsize for each in every), default=1)
        # A row before it is converted, and a result in another dtype.
        more = 2 * itemsize if any(each.is_converted or each.entry.dtype != each.work.dtype for each in every) else 0
        scratch = reduction.scratch(self._n, itemsize) + more
        self._workers, size = share_of(budget, self._n, itemsize, scratch)
        if reduction.in_order:
            self._workers = 1
        self._row, self._spare = size * itemsize, size * more // 2
        self._blocks = list(blocks_of({name: each.work for name, each in versions.items()}, size))
        self._read_rows: Callable[[Sequence[int], Sequence[int], Sequence[memoryview]], int] = operation("read_rows")
        self._progress, self._lock, self._done = progress, Lock(), 0
        self._total = sum(map(self._bytes_of, self._blocks))

    def run(self, put: Put) -> None:
        """Work on all blocks; the calling thread is one of the workers."""
        blocks = deque(self._blocks)

        def work() -> None:
            rows = BlockRows(self._n, self._row, self._spare)
            try:
                while blocks:
                    try:
                        block = blocks.popleft()
                    except IndexError:  # another worker took the last one
                        return
                    put(block, self._reduced(block, rows))
                    self._report(block)
            finally:
                blocks.clear()  # a worker that fails stops the others

        for file in {each.file: None for versions in self._versions.values() for each in versions.stored}:
            file.will_need(0, 2 * AHEAD)
        helpers = min(self._workers, len(blocks)) - 1
        if helpers < 1:
            return work()
        with ThreadPoolExecutor(helpers) as pool:
            running = [pool.submit(copy_context().run, work) for _ in range(helpers)]
            work()
        for each in running:
            each.result()

    def _read_from(self, block: Block) -> Sequence[StoredTensor]:
        """Return the versions that a block is read from: all, or the last one."""
        stored = self._versions[block.name].stored
        return stored if block.dtype.is_floating_point or self._integers == "equal" else stored[-1:]

    def _reduced(self, block: Block, rows: BlockRows) -> Tensor:
        stored = self._read_from(block)
        views, (*values, result) = rows.shaped(block)
        if self._versions[block.name].is_converted:
            self._read_converted(block, stored, values, rows.spare)
        else:
            self._read(block, stored, views)
        if block.dtype.is_floating_point:
            self._reduction.reduce(values, result)
            return result.to(self._versions[block.name].entry.dtype)
        for each, value in zip(stored, values, strict=False):
            if not torch.equal(value, values[0]):
                raise CheckpointError(
                    f"{each.file.path}: integer tensor {block.name!r} differs from that of {stored[0].file.path}; "
                    "choose integers: last to take the last file's",
                    path=each.file.path,
                )
        return values[0]

    def _read(self, block: Block, stored: Sequence[StoredTensor], views: Sequence[memoryview]) -> None:
        start, count = block.start * block.dtype.itemsize, len(stored)
        offsets = [each.entry.begin + start for each in stored]
        filled = self._read_rows([each.file.fileno() for each in stored], offsets, views[:count])
        for each, offset, view in list(zip(stored, offsets, views, strict=False))[filled:]:
            each.file.read_into(view, offset)  # reads on, or names what is wrong
        if block.ahead:
            for each, offset in zip(stored, offsets, strict=True):
                each.file.will_need(offset + AHEAD, AHEAD)

    def _read_converted(
        self, block: Block, stored: Sequence[StoredTensor], values: Sequence[Tensor], spare: Tensor
    ) -> None:
        for each, value in zip(stored, values, strict=True):
            dtype = each.entry.dtype
            raw = spare[: (block.stop - block.start) * dtype.itemsize]
            offset = each.entry.begin + block.start * dtype.itemsize
            each.file.read_into(raw.numpy().data, offset)
            value.copy_(raw.view(dtype))
            if block.ahead:
                each.file.will_need(offset + AHEAD, AHEAD)

    def _bytes_of(self, block: Block) -> int:
        """Return the number of bytes that are read for a block."""
        return (block.stop - block.start) * sum(each.entry.dtype.itemsize for each in self._read_from(block))

    def _report(self, block: Block) -> None:
        if self._progress is None:
            return
        with self._lock:
            self._done += self._bytes_of(block)
            self._progress(self._done, self._total)
