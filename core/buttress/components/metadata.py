"""Metadata of installed distributions, with unreadable ones passed over for other libraries, too.

torch, pydantic and matplotlib ask ``importlib.metadata`` for their own entry points. One distribution that it cannot
read would end them, and a pipe among its files would block them. Loads no torch.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

# The largest metadata of a well-known distribution (a long readme) are some 200 kB.
_LARGEST = 10_000_000
_FILES = ("METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt")

_discover_all = Distribution.discover
_readable: dict[str, bool] = {}


def all_distributions() -> Iterator[Distribution]:
    """Every installed distribution, readable or not."""
    return iter(_discover_all())


def pass_over_unreadable() -> None:
    """Hide distributions whose entry points cannot be read from everybody in this process, from now on."""
    Distribution.discover = staticmethod(_readable_distributions)  # type: ignore[method-assign]


def _readable_distributions(**options: Any) -> Iterator[Distribution]:
    return (each for each in _discover_all(**options) if _is_readable(each))


def _is_readable(distribution: Distribution) -> bool:
    """Whether the entry points can be read; checked once per process."""
    path = folder_of(distribution)
    known = _readable.get(str(path)) if path is not None else None
    if known is None:
        try:
            expect_readable(path)
            list(distribution.entry_points)
            known = True
        except Exception:  # parsers of metadata raise anything
            known = False
        if path is not None:
            _readable[str(path)] = known
    return known


def folder_of(distribution: Distribution) -> Path | None:
    """The folder of the metadata; None if another importer than Python's own provides the distribution."""
    path = getattr(distribution, "_path", None)
    return path if isinstance(path, Path) else None


def expect_readable(folder: Path | None) -> None:
    """Refuse metadata at which reading would block, never end or fail in silence.

    Raises:
        ValueError: a file is no regular file that can be read.
    """
    for name in _FILES if folder is not None else ():
        file = f"{folder}/{name}"
        try:
            status = os.stat(file)  # noqa: PTH116  (a Path for each of hundreds costs more than the look)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name} is no regular file")
        if status.st_size > _LARGEST:
            raise ValueError(f"{name} has {status.st_size:,} bytes, expected at most {_LARGEST:,}")
        if not os.access(file, os.R_OK):
            raise ValueError(f"{name} cannot be read: permission denied")
