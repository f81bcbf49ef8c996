"""Folders in which Python finds the modules of targets; nothing else in them can be imported.

``sys.path`` is not changed. If the working folder were on it, imports of installed packages might find files there. The
source of a module is executed, never the bytecode beside it, which could be forged to differ from the source. Processes
that training starts (workers of a data loader) find the same modules. Loads no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from multiprocessing import current_process
from pathlib import Path
from types import CodeType, ModuleType

from buttress.errors import NOT_OWN

SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)
"""Suffixes of module files, in the order in which Python looks for them: the first that exists is executed."""


def module_folders(folder: Path | None) -> list[Path]:
    """The folders that are searched for modules of targets: ``folder``, if given, and then the working folder."""
    return list(dict.fromkeys(path.resolve() for path in (*([folder] if folder else []), Path.cwd())))


def let_import(names: Iterable[str], folders: Sequence[Path]) -> None:
    """Let imports find these top-level modules in ``folders`` from now on, before installed ones."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
        sys.path_hooks.insert(0, _source_alone)
        # Every process that multiprocessing starts receives a copy of this before its work.
        getattr(current_process(), "_config", {})["buttress_own_modules"] = _FINDER
    _FINDER.folders.update((name, list(folders)) for name in names)
    for folder in folders:  # Python's cached finder of the folder would read bytecode
        sys.path_importer_cache.pop(str(folder), None)


def folders_in_use() -> list[Path]:
    """The folders in which modules are searched now."""
    return list(dict.fromkeys(folder for folders in _FINDER.folders.values() for folder in folders))


class _Finder(MetaPathFinder):
    """Finds chosen top-level modules.

    Args:
        folders: name of a module to the folders that are searched for it.
    """

    def __init__(self, folders: dict[str, list[Path]]) -> None:
        self.folders = folders

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self.folders:
            return None
        folders = [str(folder) for folder in self.folders[fullname] if folder.is_dir()]  # Python looks into zip files
        return PathFinder.find_spec(fullname, folders, target)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _let_import_too, (self.folders,)


def _let_import_too(folders: Mapping[str, Sequence[Path]]) -> _Finder:
    """In a started process, let the same modules be imported as in the process that started it."""
    for name, places in folders.items():
        let_import([name], places)
    return _FINDER


_FINDER = _Finder({})


class _SourceAlone(SourceFileLoader):
    """Loads a module from its source at every import."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _source_alone(entry: str) -> FileFinder:
    """The finder for such a folder and the packages below it, as a hook of ``sys.path_hooks``."""
    path = Path(entry)
    is_own = not entry.startswith(NOT_OWN) and any(path.is_relative_to(folder) for folder in folders_in_use())
    if not (is_own and path.is_dir()):
        raise ImportError(f"{entry} is no folder of own modules", path=entry)
    return FileFinder(
        entry,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_SourceAlone, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
