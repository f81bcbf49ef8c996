"""Lines at which components and their settings are written."""

from dataclasses import dataclass
from inspect import getsourcelines
from typing import Any

import pytest

from buttress.components.definition import with_line


class Written:
    def other(self, size: int) -> None: ...

    def __init__(
        self,
        *,
        size: int,
    ) -> None: ...


@dataclass(kw_only=True)
class Data:
    width: int = 1
    size: int = 2


def function(
    *,
    size: int,
) -> None: ...


class Inherited(Written): ...


@pytest.mark.parametrize(
    ("component", "setting", "line"),
    [
        (Written, "size", 6),
        (Written, "", 0),
        (Data, "size", 3),
        (function, "size", 2),
        (Inherited, "size", 0),
    ],
)
def test_the_line_is_that_of_the_setting(component: Any, setting: str, line: int):
    first = getsourcelines(component)[1]
    assert with_line(component, setting) == f"{component.__qualname__} (test_definition.py:{first + line})"


def test_a_component_without_source_has_no_line():
    assert with_line(dict, "size") == "dict"
    assert with_line(type("Made", (), {"__module__": "nowhere"})) == "Made"
