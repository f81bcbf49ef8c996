"""Arrays by name out of an ``.npz`` file: sizes and types first, then those arrays alone that are asked for."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import IO
from zipfile import ZipFile

import numpy as np

from buttress.errors import DataError
from buttress.storage.memory import expect_room
from buttress.storage.regular_file import open_regular_file

_SUFFIX = ".npy"


def read_arrays(path: Path, wanted: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of the ``wanted`` arrays that the file has, and the names of all that it has.

    Raises:
        DataError: the file is missing, is no ``.npz`` of plain arrays, or its arrays do not fit into memory.
    """
    try:
        with open_regular_file(path) as raw:
            names = _expect_plain(raw, wanted)
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                return {name: file[name] for name in names if name in wanted}, names
    except FileNotFoundError:
        raise DataError(f"{path.absolute()} does not exist") from None
    except Exception as problem:  # whatever zip, its compressions and numpy raise at what is none
        raise DataError(f"{path} is no readable .npz of plain arrays: {problem}") from None


def _expect_plain(raw: IO[bytes], wanted: Collection[str]) -> list[str]:
    """The names of all arrays; looks at the headers of those that are wanted.

    Raises:
        ValueError: an array is larger than what the file holds of it, or all of them than the memory that is free.
    """
    needed = 0
    with ZipFile(raw) as archive:
        members = {member.filename.removesuffix(_SUFFIX): member for member in archive.infolist()}
        for name in members.keys() & set(wanted):
            with archive.open(members[name]) as stream:
                shape, dtype = _header(stream)
            if prod(shape) * dtype.itemsize > members[name].file_size and not dtype.hasobject:
                raise ValueError(f"{name} is to be {dtype} {shape}, and its bytes are fewer")
            needed += members[name].file_size + 4 * prod(shape)  # it is read, and copied as float32
    expect_room(needed, "its arrays")
    return list(members)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
