"""Read some arrays of an ``.npz`` file by name, after checking the sizes and types of all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import prod
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZipFile

import numpy as np

from buttress.errors import DataError
from buttress.storage.memory import expect_room
from buttress.storage.regular_file import open_regular_file

_SUFFIX = ".npy"


class ArrayHeader(NamedTuple):
    """Shape and dtype of an array that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_arrays(
    path: Path, wanted: Collection[str], expect: Callable[[Mapping[str, ArrayHeader], list[str]], None]
) -> dict[str, np.ndarray]:
    """Read those of the ``wanted`` arrays that the file has.

    Args:
        path: the file.
        wanted: names of arrays.
        expect: called with the headers of the wanted arrays and the names of all, before any is read; raises DataError
            to refuse them.

    Raises:
        DataError: the file is missing, is no ``.npz`` of plain arrays, or its arrays do not fit into memory.
    """
    try:
        with open_regular_file(path) as raw:
            headers, names = _expect_plain(raw, wanted)
            if not any(header.dtype.hasobject for header in headers.values()):  # numpy refuses those below
                expect(headers, names)
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                return {name: file[name] for name in headers}
    except FileNotFoundError:
        raise DataError(f"{path.absolute()} does not exist") from None
    except DataError:
        raise
    except Exception as problem:  # whatever zip, its compressions and numpy raise at what is none
        raise DataError(f"{path} is no readable .npz of plain arrays: {problem}") from None


def _expect_plain(raw: IO[bytes], wanted: Collection[str]) -> tuple[dict[str, ArrayHeader], list[str]]:
    """The headers of the arrays that are wanted, and the names of all.

    Raises:
        ValueError: an array is larger than what the file holds of it, or all of them than the memory that is free.
    """
    needed, headers = 0, {}
    with ZipFile(raw) as archive:
        members = {member.filename.removesuffix(_SUFFIX): member for member in archive.infolist()}
        for name in members.keys() & set(wanted):
            with archive.open(members[name]) as stream:
                shape, dtype = headers[name] = _header(stream)
            if prod(shape) * dtype.itemsize > members[name].file_size and not dtype.hasobject:
                raise ValueError(f"{name} is to be {dtype} {shape}, and its bytes are fewer")
            needed += members[name].file_size + 4 * prod(shape)  # it is read, and copied as float32
    expect_room(needed, "its arrays")
    return headers, list(members)


def _header(stream: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return ArrayHeader(shape, dtype)
