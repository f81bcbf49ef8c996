"""Combine N safetensors files element-wise (median, mean) in bounded memory, at the speed of reading them.

Every worker takes a block (one range of elements of one tensor), reads that range of each file into a row of its own
buffer, reduces the rows and puts the result in its place. Neither reading nor reducing holds Python's lock, so workers
overlap the two without waiting for each other. Blocks are small, so that their rows are still in the processor's cache
when they are reduced. Workers ask the system ahead of time for the next part of each file, which keeps the disk busy.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.kernels.backend import operation
from buttress.kernels.blocks import AHEAD, Block, BlockRows, blocks_of, share_of
from buttress.storage.files import write_with
from buttress.storage.tensor_file import Entry, TensorFile, header_of, open_tensor_files

Integers = Literal["last", "equal"]
Progress = Callable[[int, int], object]

BUDGET = 64 << 20


@dataclass(frozen=True)
class Reduction:
    """A function by which N values become one.

    Args:
        reduce: function that fills ``out [B]`` from N rows ``[B]``.
        scratch: function from N and the bytes of a value to the bytes of working memory that an element takes.
    """

    reduce: Callable[[Sequence[Tensor], Tensor], object]
    scratch: Callable[[int, int], int]


def combine_files(
    paths: Sequence[Path],
    reduction: Reduction,
    out_path: Path | None = None,
    *,
    integers: Integers = "last",
    prefix: str = "",
    budget: int = BUDGET,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Combine each tensor of N files by ``reduction``; see ``buttress.kernels.median_files``.

    Args:
        paths: N >= 1 files with the same names, shapes and dtypes.
        reduction: reduction for floating-point tensors.
        out_path: file for the result, written atomically; None: the tensors are returned.
        integers: rule for integer and bool tensors.
        prefix: beginning of the names of the tensors that are taken; the results lack it.
        budget: bytes of working memory.
        metadata: metadata for the header of ``out_path``.
        progress: function that is called with the number of bytes read so far and in all, by one thread at a time.
        names: names of the tensors to combine; None: all. All files must hold the same tensors in any case.

    Returns:
        The tensors by name; an empty dict with ``out_path``.
    """
    if not paths:
        raise ValueError("expected at least one file, got none")
    if out_path is not None and any(_same(Path(path), Path(out_path)) for path in paths):
        raise ValueError(f"{out_path} is one of the files to read; choose another file to write")
    with open_tensor_files(map(Path, paths)) as files:
        entries = {name: entry for name, entry in _common(files, prefix).items() if names is None or name in names}
        if not entries and out_path is None:
            return {}
        work = _Work(files, entries, prefix, reduction, integers, budget, progress)
        if out_path is None:
            results = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in entries.items()}
            work.run(_into_tensors(results))
            return results
        header, placed = header_of(entries, metadata)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                stream.write(header)
                stream.flush()
                work.run(_into_file(stream.fileno(), placed))

        write_with(Path(out_path), write)
        return {}


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _common(files: Sequence[TensorFile], prefix: str) -> dict[str, Entry]:
    """Return the entries that all files hold under ``prefix``, by names without it.

    Raises:
        CheckpointError: there are none, or a file holds other tensors than the first one; names file and tensor.
    """
    first, *others = ({n: e for n, e in file.entries.items() if n.startswith(prefix)} for file in files)
    if not first:
        raise CheckpointError(
            f"{files[0].path} holds no tensors{f' under {prefix!r}' if prefix else ''}", path=files[0].path
        )
    for file, entries in zip(files[1:], others, strict=True):
        for name in sorted(set(first) ^ set(entries)):
            verb = "lacks" if name in first else "also holds"
            raise CheckpointError(
                f"{file.path} {verb} {name!r}, unlike {files[0].path}; give files of one model, made in one way",
                path=file.path,
            )
        for name, entry in entries.items():
            if str(entry) != str(first[name]):
                raise CheckpointError(
                    f"{file.path}: {name!r} has {entry}, expected {first[name]} as {files[0].path}", path=file.path
                )
    return {name.removeprefix(prefix): entry for name, entry in first.items()}


# A function that puts the result of a block in its place.
_Put = Callable[[Block, Tensor], None]


def _into_tensors(results: Mapping[str, Tensor]) -> _Put:
    flat = {name: tensor.view(-1) for name, tensor in results.items()}

    def put(block: Block, values: Tensor) -> None:
        flat[block.name][block.start : block.stop] = values

    return put


def _into_file(descriptor: int, placed: Mapping[str, Entry]) -> _Put:
    def put(block: Block, values: Tensor) -> None:
        entry = placed[block.name]
        left, offset = values.view(torch.uint8).numpy().data, entry.begin + block.start * entry.dtype.itemsize
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written

    return put


class _Work:
    """The work on all blocks of the files, for several workers."""

    def __init__(
        self,
        files: Sequence[TensorFile],
        entries: Mapping[str, Entry],
        prefix: str,
        reduction: Reduction,
        integers: Integers,
        budget: int,
        progress: Progress | None,
    ) -> None:
        self._files, self._reduction, self._integers = files, reduction, integers
        self._begins = {name: [file.entries[prefix + name].begin for file in files] for name in entries}
        itemsize = max(entry.dtype.itemsize for entry in entries.values())
        self._workers, size = share_of(budget, len(files), itemsize, reduction.scratch(len(files), itemsize))
        self._row = size * itemsize
        self._blocks = list(blocks_of(entries, size))
        self._read_rows: Callable[[Sequence[int], Sequence[int], Sequence[memoryview]], int] = operation("read_rows")
        self._progress, self._lock, self._done = progress, Lock(), 0
        self._total = sum(self._reads(block) * block.nbytes for block in self._blocks)

    def run(self, put: _Put) -> None:
        """Work on all blocks; the calling thread is one of the workers."""
        blocks = deque(self._blocks)

        def work() -> None:
            rows = BlockRows(len(self._files), self._row)
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

        for file in self._files:
            file.will_need(0, 2 * AHEAD)
        helpers = min(self._workers, len(blocks)) - 1
        if helpers < 1:
            return work()
        with ThreadPoolExecutor(helpers) as pool:
            running = [pool.submit(copy_context().run, work) for _ in range(helpers)]
            work()
        for each in running:
            each.result()

    def _reads(self, block: Block) -> int:
        """Return the number of files that a block is read from, the last ones."""
        return len(self._files) if block.dtype.is_floating_point or self._integers == "equal" else 1

    def _reduced(self, block: Block, rows: BlockRows) -> Tensor:
        count = self._reads(block)
        views, (*values, result) = rows.shaped(block)
        self._read(block, views, count)
        if block.dtype.is_floating_point:
            self._reduction.reduce(values, result)
            return result
        for file, value in zip(self._files, values[:count], strict=False):
            if not torch.equal(value, values[0]):
                raise CheckpointError(
                    f"{file.path}: integer tensor {block.name!r} differs from that of {self._files[0].path}; choose "
                    "integers: last to take the last file's",
                    path=file.path,
                )
        return values[0]

    def _read(self, block: Block, views: Sequence[memoryview], count: int) -> None:
        files, start = self._files[-count:], block.start * block.dtype.itemsize
        offsets = [begin + start for begin in self._begins[block.name][-count:]]
        filled = self._read_rows([file.fileno() for file in files], offsets, views[:count])
        for file, offset, view in list(zip(files, offsets, views, strict=False))[filled:]:
            file.read_into(view, offset)  # reads on, or names what is wrong
        if block.ahead:
            for file, offset in zip(files, offsets, strict=True):
                file.will_need(offset + AHEAD, AHEAD)

    def _report(self, block: Block) -> None:
        if self._progress is None:
            return
        with self._lock:
            self._done += self._reads(block) * block.nbytes
            self._progress(self._done, self._total)
