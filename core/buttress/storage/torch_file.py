"""Read the tensors of a file of ``torch.save`` piece by piece, as those of a safetensors file; its code never runs.

A zip archive of ``torch.save`` holds the bytes of each tensor as they are. Torch's restricted loader gives their names,
shapes and offsets in ``FakeTensorMode`` without reading them; then they are read in place. Other files, and those with
a tensor whose elements lie in another order, are copied into a temporary file first. On Linux it has no name, so that
nothing of it is left, even by a process that is killed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.storage.files import storage_errors
from buttress.storage.regular_file import open_regular_file
from buttress.storage.tensor_file import DTYPES, Entry, TensorFile, header_of
from buttress.storage.weights_file import choose_set, read_weight_sets


@contextmanager
def open_torch_file(path: Path, key: str | None = None, folder: Path | None = None) -> Iterator[TensorFile]:
    """Open a file of ``torch.save`` and check what it says of its tensors.

    Args:
        path: the file.
        key: key of the weights in a file that holds several sets; None takes the only set of a model.
        folder: folder for the temporary file, where one is needed; None for the system's.

    Raises:
        CheckpointError: the file is missing, truncated, asks for anything that could run code, or holds what no
            safetensors file can.
        ModelError: it holds several sets, or none under ``key``.
        StorageError: the disk is full or refuses the temporary file.

    Memory: none for an archive that is read in place; that of the largest tensor for any other archive, which is mapped
    while it is copied; that of the whole file for one in the format from before torch 1.6.
    """
    archived = _archive(path)
    entries = _entries_in_place(path, key) if archived and _is_plain(archived) else None
    if entries is not None:
        with open_regular_file(path) as file:
            yield TensorFile(path, entries, file.fileno())
        return
    weights = choose_set(read_weight_sets(path, mapped=bool(archived)), key, path)
    expected = {name: _entry(path, name, tensor) for name, tensor in weights.items()}
    with tempfile.TemporaryFile(dir=folder) as copy:
        with storage_errors(Path(folder or tempfile.gettempdir())):
            placed = _copied(weights, expected, copy)
        yield TensorFile(path, placed, copy.fileno())


# Names of the parts of an archive, with the way that each is compressed, and its order of bytes.
_Archive = tuple[dict[str, int], str]


def _archive(path: Path) -> _Archive | None:
    """The parts of a zip archive; None for any other file."""
    try:
        with open_regular_file(path) as file, ZipFile(file) as archive:
            parts = {part.filename: part.compress_type for part in archive.infolist()}
            orders = [name for name in parts if name.endswith("/byteorder")]
            return parts, archive.read(orders[0]).decode("ascii", "replace") if orders else "little"
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, ValueError):  # the loader says what is wrong
        return None


def _is_plain(archive: _Archive) -> bool:
    parts, order = archive
    return order == sys.byteorder and all(compression == ZIP_STORED for compression in parts.values())


def _entries_in_place(path: Path, key: str | None) -> dict[str, Entry] | None:
    """The tensors and where in the file each begins, in the order of their bytes; None where one has another order."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes seconds to import

    with FakeTensorMode():
        weights = choose_set(read_weight_sets(path), key, path)
    entries = {name: _entry(path, name, tensor) for name, tensor in weights.items()}
    if not all(tensor.is_contiguous() and tensor.untyped_storage()._checkpoint_offset for tensor in weights.values()):
        return None
    placed = {name: _placed(entry, weights[name]) for name, entry in entries.items()}
    size = path.stat().st_size
    for name, entry in placed.items():
        if entry.begin + entry.nbytes > size:
            raise CheckpointError(
                f"{path} cannot be read: it has {size:,} bytes, and places {name!r}, {entry}, at byte "
                f"{entry.begin:,}; the file is damaged",
                path=path,
            )
    return dict(sorted(placed.items(), key=lambda item: item[1].begin))


def _entry(path: Path, name: str, tensor: Tensor) -> Entry:
    if tensor.layout is not torch.strided or tensor.dtype not in DTYPES.values():
        raise CheckpointError(
            f"{path}: {name!r} is {tensor.layout}, {tensor.dtype}; expected a dense tensor of a dtype that safetensors "
            "files hold; convert it and save the file again",
            path=path,
        )
    return Entry(tensor.dtype, tuple(tensor.shape), 0)


def _placed(entry: Entry, tensor: Tensor) -> Entry:
    begin = tensor.untyped_storage()._checkpoint_offset or 0
    return Entry(entry.dtype, entry.shape, begin + int(tensor.storage_offset()) * entry.dtype.itemsize)


def _copied(weights: dict[str, Tensor], entries: Mapping[str, Entry], stream: IO[bytes]) -> dict[str, Entry]:
    """Write tensors as safetensors, and forget each once it is written."""
    header, placed = header_of(entries, None)
    stream.write(header)
    for name in entries:
        stream.write(weights.pop(name).detach().contiguous().flatten().view(torch.uint8).numpy().data)
    stream.flush()
    return placed
