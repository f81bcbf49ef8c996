"""The line of an author's own code: where an exception came from, and where something is written."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import getsourcelines
from pathlib import Path
from types import ModuleType

import pytest
import torch

from buttress import hookimpl
from buttress.errors import describe, kind_and_first_line, line_of, raised_through, raising_line

SOURCE = """
import torch

class Author:
    gives = ("soft label",)

    def __init__(self, *, rate: float = 0.1) -> None:
        self.rate = rate

    def calls_helper(self):
        return helper([])

    def calls_torch(self):
        return torch.zeros(2).reshape(3)

def helper(values):
    return values[5]
"""


def module(name: str, path: Path) -> ModuleType:
    made = ModuleType(name)
    made.__file__ = str(path)
    path.write_text(SOURCE)
    sys.modules[name] = made
    exec(compile(SOURCE, str(path), "exec"), made.__dict__)
    return made


@pytest.fixture
def author(tmp_path: Path) -> Iterator[type]:
    yield module("authors_plugin", tmp_path / "authors_plugin.py").Author
    del sys.modules["authors_plugin"]


def raised(function: Callable[[], object]) -> BaseException:
    """The exception that ``function`` raises, without the frame of this file, as where a plugin is called."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (of any kind)
        function()
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    return caught.value


def test_the_helper_s_line_is_shown_not_the_hook_s(author: type):
    assert describe(raised(author().calls_helper)) == "IndexError: list index out of range (authors_plugin.py:17)"


def test_the_line_that_called_torch_is_shown_not_torch_s(author: type):
    assert raising_line(raised(author().calls_torch)) == "authors_plugin.py:14"


def test_code_that_is_installed_counts_as_own_for_its_author_alone(monkeypatch: pytest.MonkeyPatch, author: type):
    problem = raised(author().calls_helper)
    folder = str(Path(author.calls_helper.__code__.co_filename).parent)
    monkeypatch.setattr("buttress.errors.own_code.NOT_OWN", (folder, "<"))
    assert raising_line(problem) == ""
    assert raising_line(problem, author) == "authors_plugin.py:17"
    assert raising_line(problem, author()) == "authors_plugin.py:17"
    assert raising_line(problem, torch.nn.Linear) == ""


def test_an_exception_that_no_own_code_has_a_part_in_shows_no_line():
    assert describe(ValueError("never raised")) == "ValueError: never raised"
    assert describe(raised(partial(torch.zeros(2).reshape, 3))).startswith("RuntimeError: shape '[3]' is invalid")
    assert raising_line(raised(partial(torch.nn.Linear(2, 2), None))) == ""


def test_a_syntax_error_shows_its_own_line():
    with pytest.raises(SyntaxError) as caught:
        compile("x = 1\ny = = 2", "/somewhere/mine.py", "exec")
    assert describe(caught.value) == "SyntaxError: invalid syntax (mine.py:2)"


def test_a_package_is_shown_by_its_folder():
    with pytest.raises(SyntaxError) as caught:
        compile("y = = 2", "/somewhere/mine/__init__.py", "exec")
    assert raising_line(caught.value) == "mine/__init__.py:1"


def test_an_exception_that_cannot_be_shown_is_named():
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise KeyError("no text")

    assert describe(BrokenError()) == "BrokenError: (no text: its __str__ raised KeyError)"
    assert len(describe(ValueError("a" * 10_000))) < 2_100


@pytest.mark.parametrize(
    ("text", "line"), [("\n one\ntwo", "ValueError: one"), ("", "ValueError: "), ("\n", "ValueError: ")]
)
def test_the_first_line_of_a_text_stands_for_it(text: str, line: str):
    assert kind_and_first_line(ValueError(text)) == line


@pytest.mark.parametrize(
    ("name", "line"), [("", 4), ("gives", 5), ("rate", 7), ("calls_helper", 10), ("no_such_member", 4)]
)
def test_a_member_of_a_class_is_shown_where_it_is_written(author: type, name: str, line: int):
    assert line_of(author, name) == line_of(author(), name) == f"authors_plugin.py:{line}"


def test_a_function_is_shown_where_it_is_written(author: type):
    assert line_of(author.calls_torch) == line_of(author().calls_torch) == "authors_plugin.py:13"


@dataclass
class Decorated:
    @hookimpl
    def before_epoch(self) -> None: ...


def test_the_line_of_def_or_class_is_shown_not_its_decorator_s():
    first = getsourcelines(Decorated)[1]
    assert line_of(Decorated) == f"test_own_code.py:{first + 1}"
    assert line_of(Decorated.before_epoch) == line_of(Decorated, "before_epoch") == f"test_own_code.py:{first + 3}"


def test_a_field_of_a_dataclass_is_shown_where_it_is_written():
    @dataclass
    class Fields:
        first: int = 1
        gives: str = "nothing"

    first = Path(__file__).read_text().splitlines().index('        gives: str = "nothing"') + 1
    assert line_of(Fields, "gives") == f"test_own_code.py:{first}"


@pytest.mark.parametrize("value", [3, len, ValueError], ids=["a number", "a builtin", "an exception of Python"])
def test_what_has_no_source_shows_no_line(value: object):
    assert line_of(value) == ""


def test_a_function_whose_file_an_exception_came_through(author: type):
    problem = raised(author().calls_helper)
    assert raised_through(problem, author.calls_torch)
    assert not raised_through(problem, raised)


class Written:
    def other(self, size: int) -> None: ...

    def __init__(
        self,
        *,
        width: int,
    ) -> None: ...


class Inherited(Written): ...


def function(
    *,
    size: int,
) -> None: ...


@pytest.mark.parametrize(
    ("component", "setting", "line"),
    [(Written, "width", 6), (Written, "", 0), (function, "size", 2), (Inherited, "width", 0)],
    ids=["a parameter", "a class", "a parameter of a function", "an inherited one"],
)
def test_a_setting_is_shown_where_it_is_written(component: object, setting: str, line: int):
    first = getsourcelines(component)[1]
    assert line_of(component, setting) == f"test_own_code.py:{first + line}"


def test_a_class_made_in_code_shows_no_line():
    assert line_of(type("Made", (), {"__module__": "nowhere"})) == ""
