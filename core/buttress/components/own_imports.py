"""Files of the user's own that an import would execute, listed by reading ``import`` statements. Executes nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from buttress.components.own_folders import SUFFIXES
from buttress.storage.regular_file import read_regular_file

_BY_NAME = ("import_module", "__import__")
"""Functions that import the module which their first argument names."""


def reached(module: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The modules in ``folders`` that importing ``module`` executes, directly or indirectly: name to file.

    The packages above a module are included. Modules that are in none of the folders are left out.
    """
    waiting, seen, files = [module], set[str](), dict[str, Path]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for each, path in _files_of(name, folders):
            if each not in files:
                files[each] = path
                waiting += _imports(
                    read_code(path), tuple(each.split(".")), is_package=path.name.startswith("__init__.")
                )
    return files


def passed_over(problem: BaseException, folders: Sequence[Path]) -> Path | None:
    """The file, or the folder of Python files, in ``folders`` of a module that an import did not find; else None."""
    name = problem.name if isinstance(problem, ModuleNotFoundError) else None
    if not isinstance(name, str) or not name.isidentifier():
        return None
    path, spaces = _look_up(name, folders)
    if path is not None:
        return path.parent if path.name.startswith("__init__.") else path
    return next((space for space in spaces if any(space.glob("*.py"))), None)


def read_code(path: Path) -> bytes:
    """The bytes of a file, none if it cannot be read, in which case its import will fail."""
    with suppress(OSError):
        return read_regular_file(path)
    return b""


def _files_of(module: str, folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Names and files, in ``folders``, of the packages above a module and of the module itself."""
    places, names = list(folders), module.split(".")
    for depth, name in enumerate(names, start=1):
        path, places = _look_up(name, places)
        if path is not None:
            yield ".".join(names[:depth]), path


def _look_up(name: str, places: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The file that Python would execute for a module's name, and the folders of the modules below it."""
    spaces = []
    for place in places:
        folder = place / name
        for suffix in SUFFIXES:
            if (file := folder / f"__init__{suffix}").is_file():
                return file, [folder]
        for suffix in SUFFIXES:
            if (file := place / f"{name}{suffix}").is_file():
                return file, []
        if folder.is_dir():
            spaces.append(folder)
    return None, spaces


@lru_cache(maxsize=2000)  # a config is checked several times, and parsing takes milliseconds per file
def _imports(source: bytes, name: tuple[str, ...], is_package: bool) -> tuple[str, ...]:
    """The modules that the source of the module ``name`` imports anywhere."""
    package = name if is_package else name[:-1]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it cannot be executed, either
        return ()
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{each.name}" if base else each.name for each in node.names)]
        elif isinstance(node, ast.Call):
            names += _named_by(node, package)
        elif is_package and isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            names += [".".join([*package, each]) for each in _offered(node)]
    return tuple(each for each in names if each)


def _offered(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> list[str]:
    """The words of ``__all__ = [...]``: ``from package import *`` imports the modules among them."""
    names = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not any(isinstance(each, ast.Name) and each.id == "__all__" for each in names) or node.value is None:
        return []
    words = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
    return [word for word in words if isinstance(word, str)]


def _named_by(call: ast.Call, package: Sequence[str]) -> list[str]:
    """The module that ``import_module("name")`` names."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    if function not in _BY_NAME or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return []
    return [".".join([*package, first.value.lstrip(".")]) if first.value.startswith(".") else first.value]
