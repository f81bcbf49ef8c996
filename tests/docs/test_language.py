"""Names, docstrings and comments in plain language: nouns for variables, whole phrases that begin with the thing."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from .blocks import ROOT

VAGUE = frozenset({"alone", "found", "located", "means", "said", "told"})
"""Words that name nothing: a variable is called by a noun for what it holds."""
FOLDERS = ("core", "plugins", "scripts", "benchmarks")
_PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
_COMPILED = (".h", ".inc", ".cpp", ".cu", ".cuh")
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
    """The beginnings of all docstrings and comments, the lines of ``Args``, and every text of help."""
    yield from comments_in(source, "#")
    for node in ast.walk(ast.parse(source)):
        yield from attribute_docstrings_in(node)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lines = (ast.get_docstring(node) or "").splitlines()
            yield from lines[:1]
            yield from (line.strip() for line in lines if re.match(r"    \w+: ", line))
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            yield from (part.value for part in [node.value] if isinstance(part, ast.Constant) and part.value)


def attribute_docstrings_in(node: ast.AST) -> Iterator[str]:
    """The strings that directly follow an assignment in the body of a module or class."""
    body = node.body if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else []
    for before, after in pairwise(body):
        if isinstance(before, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr):
            text = after.value.value if isinstance(after.value, ast.Constant) else None
            yield from [text.strip()] if isinstance(text, str) else []


def comments_in(source: str, mark: str) -> Iterator[str]:
    """The first line of every block of comments that begin with ``mark``."""
    before = ""
    for line in map(str.strip, source.splitlines()):
        if line.startswith(mark) and not before.startswith(mark):
            yield line.removeprefix(mark).lstrip(mark + ": ")
        before = line


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", _PYTHON, ids=shown)
def test_a_module_is_written_in_plain_language(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not [name for name in names_in(source) if name.strip("_") in VAGUE]
    assert not [phrase for phrase in phrases_in(source) if _ELLIPTIC.match(phrase)]


def test_compiled_code_is_written_in_plain_language() -> None:
    declared = re.compile(rf"\b(?:auto|bool|float|int|int64_t|size_t|T)\s*[*&]?\s+({'|'.join(VAGUE)})\b")
    files = {path: path.read_text(encoding="utf-8") for path in (ROOT / "csrc").rglob("*") if path.suffix in _COMPILED}
    assert {path.suffix for path in files} >= {".h", ".inc", ".cpp"}
    assert not [shown(path) for path, source in files.items() if declared.search(source)]
    assert not [text for source in files.values() for text in comments_in(source, "//") if _ELLIPTIC.match(text)]


def test_a_vague_name_and_an_elliptic_phrase_are_seen() -> None:
    assert VAGUE.intersection(names_in("def f(told):\n    found = self.said = 1"))
    function = 'def f(a):\n    """Do.\n\n    Args:\n        a: of the run.\n    """\n'
    phrases = phrases_in(f'"""What it is."""\n{function}option(help="of it")')
    assert [bool(_ELLIPTIC.match(phrase)) for phrase in phrases] == [True, False, True, True]


def test_an_elliptic_comment_and_attribute_docstring_are_seen() -> None:
    module = '# Of the bench.\n# of which more\nN = 1\n"""What is counted."""\n'
    source = f'{module}class A:\n    # What it holds\n    b: int\n    "of A"'
    elliptic = [phrase for phrase in phrases_in(source) if _ELLIPTIC.match(phrase)]
    assert elliptic == ["Of the bench.", "What it holds", "What is counted.", "of A"]
    assert list(comments_in("// Of keys\n// of lanes\nint n;", "//")) == ["Of keys"]


_ONE_ROLE = {"Answer": "each part of analyze calls the shape of its own answer so"}
"""Names of several classes that stand for the same thing in each place, with the reason."""


def classes_by_name() -> dict[str, set[str]]:
    """The modules of the core that define a public class, or a type alias of a class's name, by that name."""
    homes: dict[str, set[str]] = {}
    classes: set[str] = set()
    for path in (ROOT / "core" / "buttress").rglob("*.py"):
        if "templates" in path.parts:  # files of other people's packages
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_class = isinstance(node, ast.ClassDef)
            names = [node.name] if is_class else assigned_in(node)
            classes.update(names if is_class else ())
            for name in names:
                homes.setdefault(name, set()).add(shown(path))
    return {name: homes[name] for name in classes if not name.startswith("_")}


def assigned_in(node: ast.stmt) -> list[str]:
    """The names that a statement of a module assigns."""
    return [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]


def test_a_class_has_its_name_for_itself() -> None:
    homes = classes_by_name()
    assert {"Engine", "TrackSummary", "Answer"} <= set(homes)
    shared = {name: sorted(files) for name, files in homes.items() if len(files) > 1}
    assert not {name: files for name, files in shared.items() if name not in _ONE_ROLE}
    assert set(_ONE_ROLE) <= set(shared)
