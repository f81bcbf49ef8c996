"""Metadata of installed distributions that can be read, for libraries too that look through all of them.

torch, pydantic and matplotlib ask ``importlib.metadata`` for entry points of their own: at one distribution that it
cannot read they end, and a pipe among its files is waited for. Loads no torch.
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
    """Every installed distribution, those included that cannot be read."""
    return iter(_discover_all())


def pass_over_unreadable() -> None:
    """From now on, let everybody in this process see only the distributions whose entry points can be read."""
    Distribution.discover = staticmethod(_readable_distributions)  # type: ignore[method-assign]


def _readable_distributions(**options: Any) -> Iterator[Distribution]:
    return (each for each in _discover_all(**options) if _is_readable(each))


def _is_readable(distribution: Distribution) -> bool:
    """Looked at once a process."""
    path = folder_of(distribution)
    known = _readable.get(str(path)) if path is not None else None
    if known is None:
        try:
            expect_readable(path)
            list(distribution.entry_points)
            known = True
        except Exception:  # whatever the parsers of metadata raise at what is none
            known = False
        if path is not None:
            _readable[str(path)] = known
    return known


def folder_of(distribution: Distribution) -> Path | None:
    """Where its metadata lie; None where another importer than Python's own has found it."""
    path = getattr(distribution, "_path", None)
    return path if isinstance(path, Path) else None


def expect_readable(folder: Path | None) -> None:
    """Refuse metadata that reading would wait for, never finish or pass over in silence.

    Raises:
        ValueError: a file is there, and is no regular file that can be read.
    """
    for name in _FILES if folder is not None else ():
        file = f"{folder}/{name}"
        try:
            found = os.stat(file)  # noqa: PTH116  (a Path for each of hundreds costs more than the look)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{name} is no regular file")
        if found.st_size > _LARGEST:
            raise ValueError(f"{name} has {found.st_size:,} bytes, expected at most {_LARGEST:,}")
        if not os.access(file, os.R_OK):
            raise ValueError(f"{name} cannot be read: permission denied")
