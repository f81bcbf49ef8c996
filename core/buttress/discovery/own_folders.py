"""Folders that Python searches for the modules of targets: first while a target is imported, and last from then on.

Of their modules the source is executed, and never the bytecode that lies beside it: a forged one would be another
program than the one that can be read. Loads no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from sysconfig import get_path
from types import CodeType

NOT_OWN = (str(Path(__file__).parent.parent), *(get_path(name) for name in ("stdlib", "purelib", "platlib")), "<")
"""What the files begin with that are nobody's own code: of buttress, of Python, what is installed, what is frozen."""

_searched: set[Path] = set()
_added: set[str] = set()  # what they have put into sys.path


def module_folders(folder: Path | None) -> list[Path]:
    """Where modules of targets are looked up: in ``folder``, if there is one, then in the working folder."""
    return list(dict.fromkeys(path.resolve() for path in (*([folder] if folder else []), Path.cwd())))


@contextmanager
def searched_first(folders: Sequence[Path]) -> Iterator[None]:
    """Let imports find modules in ``folders`` before all others, and after the block behind all others.

    Behind them they stay, for what their modules import later; a module of theirs that has the name of an installed one
    is then not taken for it.
    """
    words = [str(folder) for folder in folders]
    _read_source_alone(folders)
    _added.update(word for word in words if word not in sys.path)
    sys.path[:0] = words
    try:
        yield
    finally:
        for word in words:
            with suppress(ValueError):  # a module may have taken it away
                sys.path.remove(word)
        sys.path += [word for word in words if word not in sys.path]


def installed_path() -> list[str]:
    """``sys.path`` without these folders: a distribution that lies in one is not installed."""
    return [entry for entry in sys.path if entry not in _added]


class _SourceAlone(SourceFileLoader):
    """Compiles the source at every import."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _read_source_alone(folders: Sequence[Path]) -> None:
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
    for folder in folders:
        if folder not in _searched:
            _searched.add(folder)
            sys.path_importer_cache.pop(str(folder), None)


def _finder(entry: str) -> FileFinder:
    """The finder of such a folder and of the packages in it; as a hook of ``sys.path_hooks``."""
    path = Path(entry)
    if entry.startswith(NOT_OWN) or not any(path.is_relative_to(folder) for folder in _searched):
        raise ImportError(f"{entry} is no folder of own modules", path=entry)
    return FileFinder(
        entry,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_SourceAlone, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
