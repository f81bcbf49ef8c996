"""Hooks of a plugin's class, read from the source text of its module. Imports and executes nothing of it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path

from buttress.hookspecs import HOOKS
from buttress.storage.regular_file import read_regular_file

# Decorators of a class after which it still has the hooks that its source shows.
_HARMLESS = {"dataclass", "final"}


class _NotShown(Exception):  # noqa: N818  (an answer, and no error)
    """The source text does not show which hooks the class has."""


@dataclass(frozen=True)
class _Module:
    """The source of a module.

    Args:
        classes: name to class; None for a name that is given twice.
        imported: name to the module and the name in it that ``from module import name`` gives.
    """

    classes: Mapping[str, ast.ClassDef | None]
    imported: Mapping[str, tuple[str, str]]


def hooks_in_source(target: str) -> set[str] | None:
    """The hooks of the class that an entry point names, or None where the source text does not show all of them.

    The class, and every class that it inherits from, is looked for in the modules that their names lead to; names that
    a module imports from another one are followed.

    Args:
        target: value of an entry point, ``package.module:Class``.
    """
    module, _, name = target.partition("[")[0].partition(":")
    try:
        return _hooks_of_class(module.strip(), name.strip(), ())
    except _NotShown:
        return None


def _hooks_of_class(module: str, name: str, seen: tuple[tuple[str, str], ...]) -> set[str]:
    if (module, name) in seen:  # names that lead in a circle
        raise _NotShown
    seen = (*seen, (module, name))
    source = _source_of(module)
    if name in source.imported:
        return _hooks_of_class(*source.imported[name], seen)
    cls = source.classes.get(name)
    if cls is None or cls.keywords or not all(map(_is_harmless, cls.decorator_list)):
        raise _NotShown
    hooks = set(_own_hooks(cls))
    for base in cls.bases:
        if not isinstance(base, ast.Name):
            raise _NotShown
        if base.id != "object":
            hooks |= _hooks_of_class(module, base.id, seen)
    return hooks


def _own_hooks(cls: ast.ClassDef) -> Iterator[str]:
    for statement in cls.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = [each for each in statement.decorator_list if _last_name(each) == "hookimpl"]
            yield from (hook for each in marks if (hook := _hook_of(each) or statement.name) in HOOKS)
        elif any(_last_name(each) == "hookimpl" for each in ast.walk(statement) if isinstance(each, ast.expr)):
            raise _NotShown  # a hook that is assigned, or that depends on a condition


def _hook_of(mark: ast.expr) -> str:
    """The hook that ``@hookimpl(specname="...")`` names; empty where the method's name does."""
    for option in mark.keywords if isinstance(mark, ast.Call) else ():
        if option.arg == "specname":
            if not isinstance(option.value, ast.Constant):
                raise _NotShown
            return str(option.value.value or "")
    return ""


def _is_harmless(decorator: ast.expr) -> bool:
    return _last_name(decorator) in _HARMLESS


def _last_name(node: ast.expr) -> str:
    """``dataclass`` of ``@dataclass``, of ``@dataclasses.dataclass`` and of ``@dataclass(eq=False)``."""
    inner = node.func if isinstance(node, ast.Call) else node
    return inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""


@cache
def _source_of(module: str) -> _Module:
    spec = _spec_of(module)
    if spec is None or not spec.origin or not spec.has_location:
        raise _NotShown
    try:
        with warnings.catch_warnings(action="ignore"):  # about the author's backslashes
            tree = ast.parse(read_regular_file(Path(spec.origin)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        raise _NotShown from None
    classes: dict[str, ast.ClassDef | None] = {}
    imported: dict[str, tuple[str, str]] = {}
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = None if statement.name in classes else statement
        elif isinstance(statement, ast.ImportFrom):
            origin = _absolute("." * statement.level + (statement.module or ""), package)
            imported |= {each.asname or each.name: (origin, each.name) for each in statement.names}
        else:
            classes |= dict.fromkeys(_bound(statement))
    return _Module(classes, imported)


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds: a class of that name is perhaps another one afterwards."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    names = (each for each in ast.walk(statement) if isinstance(each, ast.Name))
    return {each.id for each in names if isinstance(each.ctx, ast.Store)}


def _absolute(name: str, package: str) -> str:
    try:
        return resolve_name(name, package)
    except ImportError:  # more dots than packages
        raise _NotShown from None


def _spec_of(module: str) -> ModuleSpec | None:
    """The place of a module. Packages above it are looked up and not imported, as ``find_spec`` would."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    for depth in range(2, len(rest) + 2):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(module.split(".")[:depth]), list(spec.submodule_search_locations))
    return spec
