"""Combine N files of weights element-wise (median, mean) in bounded memory, at the speed of reading them.

Every worker takes a block (one range of elements of one tensor), reads that range of each file into a row of its own
buffer, reduces the rows and puts the result in its place. Neither reading nor reducing holds Python's lock, so workers
overlap the two without waiting for each other. Blocks are small, so that their rows are still in the processor's cache
when they are reduced. Workers ask the system ahead of time for the next part of each file, which keeps the disk busy.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from buttress.kernels.agreement import TensorVersions, agreed_versions
from buttress.kernels.blocks import Block
from buttress.kernels.file_work import FileWork, Integers, Progress, Put, Reduction
from buttress.storage.files import write_with
from buttress.storage.tensor_file import Entry, header_of
from buttress.storage.weights_source import open_sources

BUDGET = 64 << 20


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
    dtype: torch.dtype | None = None,
    key: str | None = None,
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
        dtype: dtype of the floating-point results; None: that of the files.
        key: key of the weights in files that hold several sets.

    Returns:
        The tensors by name; an empty dict with ``out_path``.
    """
    with open_versions(paths, out_path, prefix=prefix, names=names, dtype=dtype, key=key) as versions:
        return combine_versions(
            versions, reduction, out_path, integers=integers, budget=budget, metadata=metadata, progress=progress
        )


@contextmanager
def open_versions(
    paths: Sequence[Path],
    out_path: Path | None = None,
    *,
    prefix: str = "",
    names: Collection[str] | None = None,
    dtype: torch.dtype | None = None,
    key: str | None = None,
) -> Iterator[dict[str, TensorVersions]]:
    """Open N files, and give the block the versions of each tensor; see ``combine_files``."""
    if not paths:
        raise ValueError("expected at least one file, got none")
    with open_sources(paths, key, None if out_path is None else Path(out_path).parent) as sources:
        read = [path for source in sources for path in (source.path, *(file.path for file in source.files))]
        if out_path is not None and any(_same(path, Path(out_path)) for path in read):
            raise ValueError(f"{out_path} is one of the files to read; choose another file to write")
        yield agreed_versions(sources, prefix, names, dtype)


def combine_versions(
    versions: Mapping[str, TensorVersions],
    reduction: Reduction,
    out_path: Path | None = None,
    *,
    integers: Integers = "last",
    budget: int = BUDGET,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Combine the N versions of each tensor; see ``combine_files``."""
    if not versions and out_path is None:
        return {}
    work = FileWork(versions, reduction, integers, budget, progress)
    entries = {name: each.entry for name, each in versions.items()}
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


def _into_tensors(results: Mapping[str, Tensor]) -> Put:
    flat = {name: tensor.view(-1) for name, tensor in results.items()}

    def put(block: Block, values: Tensor) -> None:
        flat[block.name][block.start : block.stop] = values

    return put


def _into_file(descriptor: int, placed: Mapping[str, Entry]) -> Put:
    def put(block: Block, values: Tensor) -> None:
        entry = placed[block.name]
        left, offset = values.view(torch.uint8).numpy().data, entry.begin + block.start * entry.dtype.itemsize
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written

    return put
