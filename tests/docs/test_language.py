"""Names and docstrings in plain language: nouns for variables, whole phrases that begin with the thing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import ROOT

VAGUE = frozenset({"alone", "found", "located", "means", "said", "told"})
"""Words that name nothing: a variable is called by a noun for what it holds."""
FOLDERS = ("core", "plugins", "scripts", "benchmarks")
_PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
_ELLIPTIC = re.compile(r"(\w+: +)?(of|what)\b", flags=re.IGNORECASE)


def names_in(source: str) -> Iterator[str]:
    """Every name that a source gives to a variable, argument, attribute, function or class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name


def phrases_in(source: str) -> Iterator[str]:
    """The first line and the lines of ``Args`` of every docstring, and every text of help."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lines = (ast.get_docstring(node) or "").splitlines()
            yield from lines[:1]
            yield from (line.strip() for line in lines if re.match(r"    \w+: ", line))
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            yield from (part.value for part in [node.value] if isinstance(part, ast.Constant) and part.value)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", _PYTHON, ids=shown)
def test_a_module_is_written_in_plain_language(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not [name for name in names_in(source) if name.strip("_") in VAGUE]
    assert not [phrase for phrase in phrases_in(source) if _ELLIPTIC.match(phrase)]


def test_compiled_code_is_written_in_plain_language() -> None:
    declared = re.compile(rf"\b(?:auto|bool|float|int|int64_t|size_t|T)\s*[*&]?\s+({'|'.join(VAGUE)})\b")
    files = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh")]
    assert files
    assert not [shown(path) for path in files if declared.search(path.read_text(encoding="utf-8"))]


def test_a_vague_name_and_an_elliptic_phrase_are_seen() -> None:
    assert VAGUE.intersection(names_in("def f(told):\n    found = self.said = 1"))
    function = 'def f(a):\n    """Do.\n\n    Args:\n        a: of the run.\n    """\n'
    phrases = phrases_in(f'"""What it is."""\n{function}option(help="of it")')
    assert [bool(_ELLIPTIC.match(phrase)) for phrase in phrases] == [True, False, True, True]
