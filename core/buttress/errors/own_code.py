"""Lines of an author's own code: the one that raised an exception, and the one on which something is written."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from sysconfig import get_path
from textwrap import dedent
from types import FrameType, TracebackType
from typing import Any

NOT_OWN = (str(Path(__file__).parent.parent), *(get_path(name) for name in ("stdlib", "purelib", "platlib")), "<")
"""Beginnings of file names that belong to no author: buttress, the standard library, installed and frozen code."""


def raising_line(problem: BaseException, author: object = None) -> str:
    """``"my_defense.py:12"``: the innermost line of an author's own code that an exception came through.

    Args:
        problem: an exception that was raised.
        author: a plugin, a class or a function whose package is own code, too, although it is installed.

    Returns:
        File and line; for an error of syntax where it is; empty where the exception came through no own code.
    """
    if isinstance(problem, SyntaxError):
        return _line(problem.filename or "?", problem.lineno or 0)
    package = _package(author)
    own = [
        _line(frame.f_code.co_filename, number)
        for frame, number in _frames(problem.__traceback__)
        if _is_own(frame, package)
    ]
    return own[-1] if own else ""


def raised_through(problem: BaseException, function: Any) -> bool:
    """Whether an exception came through the file in which ``function`` is written."""
    file = inspect.unwrap(function).__code__.co_filename
    return any(frame.f_code.co_filename == file for frame, _ in _frames(problem.__traceback__))


def line_of(author: Any, name: str = "") -> str:
    """``"my_defense.py:7"``: where a class, an object's class or a function is written, or a part of it.

    Args:
        author: an object, a class or a function.
        name: attribute, field, method or setting of the class, or parameter of the function; where there is none of
            that name, the line is that of the whole: of its ``def`` or ``class``, below the decorators.

    Returns:
        File and line, or nothing where there is no source.
    """
    written = inspect.unwrap(author if inspect.isclass(author) or inspect.isroutine(author) else type(author))
    try:
        lines, first = inspect.getsourcelines(written)
        file = inspect.getsourcefile(written) or "?"
        tree = ast.parse(dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # no source, or none that stands by itself
        return ""
    written_at = tree.body[0].lineno  # the line of def or class, below its decorators
    line = next((node.lineno for node in _parts(tree) if name and _name_of(node) == name), written_at)
    return _line(file, first + line - 1)


def _parts(tree: ast.Module) -> Iterator[ast.stmt | ast.arg | ast.expr]:
    """Named parts of a class or function: its members, what its methods assign to ``self``, its parameters."""
    for definition in tree.body:
        yield from getattr(definition, "body", ())
        for node in ast.walk(definition):
            if isinstance(node, (ast.arg, ast.Attribute)):
                yield node


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Assign):
        node = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        node = node.target
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
        return ""
    words = (getattr(node, key, None) for key in ("id", "arg", "attr", "name"))
    return next((word for word in words if isinstance(word, str)), "")


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_own(frame: FrameType, package: str) -> bool:
    file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__", ""))
    return not file.startswith(NOT_OWN) or (bool(package) and module.partition(".")[0] == package)


def _package(author: object) -> str:
    """Name of the top-level package in which a plugin's class or function is written; nothing for buttress itself."""
    written = author if inspect.isclass(author) or inspect.isroutine(author) else type(author)
    package = str(getattr(written, "__module__", "")).partition(".")[0]
    return "" if package in ("buttress", "builtins") else package


def _line(file: str, number: int) -> str:
    path = Path(file)
    return f"{path.parent.name}/{path.name}:{number}" if path.name == "__init__.py" else f"{path.name}:{number}"
