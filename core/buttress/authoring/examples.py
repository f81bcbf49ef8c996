"""Examples of hooks, models and data sets, taken apart and put together as the module of a new package."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from buttress.components.signature import documentation_in

TEMPLATES = Path(__file__).parent / "templates"
# Length of the longest line of generated code.
_WIDTH = 100
# Kinds whose example is a class of its own form, and no collection of hooks.
COMPONENTS = ("model", "dataset")


@dataclass(frozen=True)
class Piece:
    """An example, taken apart.

    Args:
        subject: its hook, or ``model`` or ``dataset``.
        text: its module.
        wraps: whether it wraps the hook.
    """

    subject: str
    text: str
    wraps: bool = False

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def document(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @property
    def cls(self) -> ast.ClassDef:
        return next(node for node in self.tree.body if isinstance(node, ast.ClassDef))

    @property
    def constants(self) -> list[str]:
        """The assignments of the module: a logger, a number, the name of a type."""
        return [self.source(node) for node in self.tree.body if isinstance(node, ast.Assign)]

    def source(self, node: ast.stmt | ast.arg | ast.expr) -> str:
        """The text of ``node``; of a statement its lines, decorators included."""
        if not isinstance(node, ast.stmt):
            return ast.get_source_segment(self.text, node) or ""
        first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
        return "\n".join(self.text.splitlines()[first - 1 : node.end_lineno])

    def functions(self, *, tests: bool) -> list[ast.FunctionDef]:
        return [
            node
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") is tests
        ]


def piece_of(folder: str, name: str, cls: str) -> Piece:
    """The example ``name`` of a folder (``hooks``, ``wrappers``, ``components``), with a class called ``cls``."""
    text = (TEMPLATES / folder / f"{name}.py").read_text(encoding="utf-8")
    return Piece(name, re.sub(r"\bExample\b", cls, text), wraps=folder == "wrappers")


def module_text(cls: str, pieces: Sequence[Piece]) -> str:
    """The plugin's module: imports, the class with all hooks, the functions."""
    constants = list(dict.fromkeys(line for piece in pieces for line in piece.constants))
    wanted = "\n".join([*constants, *(_code(piece) for piece in pieces)])
    document = pieces[0].document
    if len(pieces) > 1:
        document = "\n\n".join([f"{cls}: {len(pieces)} hooks.", *(piece.document for piece in pieces)])
    parts = [
        f'"""{_quoted(document)}"""\n\n{_imports(pieces, wanted)}' + "".join(f"\n\n{line}" for line in constants),
        _class(cls, pieces),
        *(piece.source(node) for piece in pieces for node in piece.functions(tests=False)),
    ]
    return "\n\n\n".join(parts) + "\n"


def _code(piece: Piece) -> str:
    """The class and the functions of an example, without its tests."""
    nodes = [piece.cls, *piece.functions(tests=False)]
    return "\n".join(piece.source(node) for node in nodes)


def _class(cls: str, pieces: Sequence[Piece]) -> str:
    if pieces[0].subject in COMPONENTS:
        return pieces[0].source(pieces[0].cls)
    documents = [ast.get_docstring(piece.cls) or "" for piece in pieces]
    settings = [entry for document in documents for entry in documentation_in(document).items()]
    summaries = [document.split("\n\n")[0] for document in documents]
    lines = ["\n\n".join(summaries)]
    if settings:
        lines.append("Args:\n" + "\n".join(f"    {name}: {text}" for name, text in settings))
    text = _quoted("\n\n".join(lines))
    quoted = f'"""{text}"""'
    members = [indent(quoted, "    ")]
    members += _sources(pieces, ast.Assign)
    fields = sorted(_sources(pieces, ast.AnnAssign), key=lambda line: line.lstrip().startswith("_"))  # settings first
    members += ["\n".join(fields)] if fields else []
    members += _sources(pieces, ast.FunctionDef)
    head = f"@dataclass(eq=False, kw_only=True)\nclass {cls}:\n" if fields else f"class {cls}:\n"
    return head + "\n\n".join(members)


def _sources(pieces: Sequence[Piece], kind: type[ast.stmt]) -> list[str]:
    """The statements of one kind in the classes of all pieces."""
    return [piece.source(node) for piece in pieces for node in piece.cls.body if isinstance(node, kind)]


def _imports(pieces: Sequence[Piece], code: str) -> str:
    """The imports of all examples that ``code`` uses, each once, standard library first."""
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for piece in pieces:
        for node in piece.tree.body:
            if isinstance(node, ast.Import):
                plain |= {ast.unparse(alias) for alias in node.names if _used(alias.asname or alias.name, code)}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used = {ast.unparse(alias) for alias in node.names if _used(alias.asname or alias.name, code)}
                named.setdefault(node.module, set()).update(used)
    blocks = []
    for belongs in (_is_standard, _is_foreign):
        lines = [f"import {name}" for name in sorted(plain) if belongs(name.split(".")[0].split()[0])]
        lines += [
            _from(module, names) for module, names in sorted(named.items()) if names and belongs(module.split(".")[0])
        ]
        if lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def imports_of_tests(pieces: Sequence[Piece], module: str, cls: str) -> str:
    """The imports of the tests of ``cls``, which is in ``module``."""
    tests = "\n".join(piece.source(node) for piece in pieces for node in piece.functions(tests=True))
    functions = [node.name for piece in pieces for node in piece.functions(tests=False) if _used(node.name, tests)]
    used = [line for line in _imports(pieces, tests).splitlines() if line]
    promises = pieces[0].subject not in COMPONENTS
    plain = {"import pytest"} if promises else set()
    named = {"from buttress.testing import Promise, promises"} if promises else set()
    plain |= {line for line in used if line.startswith("import ")}
    named |= {line for line in used if line.startswith("from ")}
    return "\n".join([*sorted(plain), *sorted(named), "", _from(module, [cls, *functions])])


def _from(module: str, names: Iterable[str]) -> str:
    """An import that fits into a line, or has a line for each name."""
    ordered = sorted(names, key=_import_order)
    line = f"from {module} import {', '.join(ordered)}"
    return line if len(line) <= _WIDTH else f"from {module} import (\n" + "".join(f"    {n},\n" for n in ordered) + ")"


def _used(name: str, code: str) -> bool:
    return re.search(rf"\b{re.escape(name.split('.')[0] if ' ' not in name else name)}\b", code) is not None


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: as isort sorts the names of an import."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _is_standard(name: str) -> bool:
    return name in sys.stdlib_module_names


def _is_foreign(name: str) -> bool:
    return not _is_standard(name)


def _quoted(text: str) -> str:
    """Text inside of a docstring: several lines end in a line of their own."""
    return f"{text}\n" if "\n" in text else text


def summary_of(piece: Piece) -> str:
    """The first line of the documentation of its module."""
    return piece.document.splitlines()[0].rstrip(".")
