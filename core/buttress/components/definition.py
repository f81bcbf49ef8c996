"""Lines of code at which a component and its settings are written. Loads no torch."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent


def with_line(component: Callable[..., object], setting: str = "") -> str:
    """``"MyDefense (my_defense.py:12)"``: a component, with the line of a setting of it or of its own beginning."""
    line = _line(component, setting)
    return f"{component.__qualname__} ({line})" if line else component.__qualname__


def _line(component: Callable[..., object], setting: str) -> str:
    """The line of a parameter or of a field; else that of the component; nothing where there is no source."""
    try:
        lines, first = inspect.getsourcelines(component)
        file = Path(inspect.getsourcefile(component) or "?").name
        tree = ast.parse(dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # no source, or none that stands by itself
        return ""
    line = next((node.lineno for node in _settings_in(tree.body[0]) if _name_of(node) == setting), 1)
    return f"{file}:{first + line - 1}"


def _settings_in(component: ast.stmt) -> Iterator[ast.arg | ast.AnnAssign]:
    """The annotated fields of a class and the parameters of its ``__init__``, or the parameters of a function."""
    if isinstance(component, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _arguments(component.args)
    for node in component.body if isinstance(component, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign):
            yield node
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            yield from _arguments(node.args)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def _name_of(node: ast.arg | ast.AnnAssign) -> str:
    if isinstance(node, ast.arg):
        return node.arg
    return node.target.id if isinstance(node.target, ast.Name) else ""
