"""Settings of every type that a config can hold: read, checked, written out again; of the others none is accepted."""

import datetime
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import pytest
import torch
from annotated_types import Ge, Len
from pydantic import BaseModel

from buttress.authoring.inventory import keys_of
from buttress.components.construct import construct
from buttress.components.place import Place
from buttress.components.plain import plain
from buttress.components.signature import settings_model
from buttress.config.file import dump_config
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, PluginError
from buttress.settings import Curve, PerEpoch


class Color(Enum):
    RED = "red"
    DARK_BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Odd(Enum):
    ONE = (1, 2)


class Pair(NamedTuple):
    a: int
    b: float = 0.5


class Model(BaseModel):
    a: int = 1


@dataclass
class Plain:
    a: int = 1


class Typed(TypedDict):
    a: int


def component(annotation: Any, *default: Any) -> Any:
    """A component with the one setting ``value``, which it gives back."""

    def made(*, value: Any) -> Any:
        return value

    given = default[0] if default else Parameter.empty
    parameter = Parameter("value", Parameter.KEYWORD_ONLY, annotation=annotation, default=given)
    made.__signature__ = Signature([parameter])  # type: ignore[attr-defined]
    made.__name__ = made.__qualname__ = "Made"
    return made


LINE, EIGHT = Curve("linear", [(0, 0.0), (10, 0.5)]), Fraction(8, 255)
CASES: list[tuple[Any, str, Any, Any]] = [
    (Path, "a/b.pt", Path("a/b.pt"), "a/b.pt"),
    (Path | None, "null", None, None),
    (list[Path], "[a, b]", [Path("a"), Path("b")], ["a", "b"]),
    (dict[str, Path], "{x: a}", {"x": Path("a")}, {"x": "a"}),
    (tuple[int, float], "[1, 1/2]", (1, 0.5), [1, 0.5]),
    (tuple[int, ...], "[1, 2, 3]", (1, 2, 3), [1, 2, 3]),
    (tuple[Color, Path], "[blue, a]", (Color.DARK_BLUE, Path("a")), ["blue", "a"]),
    (set[str], "[b, a, b]", {"a", "b"}, ["a", "b"]),
    (set[int | str], "[2, b, 1, a]", {1, 2, "a", "b"}, [1, 2, "a", "b"]),
    (frozenset[int], "[3, 1]", frozenset({1, 3}), [1, 3]),
    (Set[int], "[3, 1]", {1, 3}, [1, 3]),
    (set[tuple[int, int]], "[[2, 1], [1, 2]]", {(1, 2), (2, 1)}, [[1, 2], [2, 1]]),
    (Annotated[set[Color], Len(1)], "[red]", {Color.RED}, ["red"]),
    (deque[int], "[1, 2]", deque([1, 2]), [1, 2]),
    (Iterable[int], "[1, 2]", [1, 2], [1, 2]),
    (Sequence[Fraction], "[1/3]", [Fraction(1, 3)], ["1/3"]),
    (Mapping[str, Color], "{a: red}", {"a": Color.RED}, {"a": "red"}),
    (Color, "blue", Color.DARK_BLUE, "blue"),
    (Color, "DARK_BLUE", Color.DARK_BLUE, "blue"),
    (Color | None, "red", Color.RED, "red"),
    (Level, "2", Level.HIGH, 2),
    (Level, "HIGH", Level.HIGH, 2),
    (Odd, "ONE", Odd.ONE, "ONE"),
    (Fraction, "8/255", Fraction(8, 255), "8/255"),
    (Fraction, "0.1", Fraction(1, 10), "1/10"),
    (Fraction | None, "1/3", Fraction(1, 3), "1/3"),
    (Annotated[Fraction, Ge(0)], "1/3", Fraction(1, 3), "1/3"),
    (Decimal, "'1.50'", Decimal("1.50"), "1.50"),
    (complex, "1+2j", 1 + 2j, "1+2j"),
    (bytes, "abc", b"abc", "abc"),
    (datetime.date, "'2026-11-29'", datetime.date(2026, 11, 29), "2026-11-29"),
    (datetime.timedelta, "90", datetime.timedelta(seconds=90), 90.0),
    (UUID, "'12345678-1234-5678-1234-567812345678'", UUID(int=0x12345678123456781234567812345678), None),
    (re.Pattern[str], "'a+'", re.compile("a+"), "a+"),
    (Pair, "[1, 2.0]", Pair(1, 2.0), [1, 2.0]),
    (Pair, "{a: 3}", Pair(3), [3, 0.5]),
    (Model, "{a: 2}", Model(a=2), {"a": 2}),
    (Plain, "{a: 2}", Plain(2), {"a": 2}),
    (PerEpoch[float], "1/2", 0.5, 0.5),
    (PerEpoch[float], "{linear: [[0, 0], [10, 1/2]]}", LINE, {"linear": [[0, 0.0], [10, 0.5]]}),
    (PerEpoch[int] | None, "{piecewise: [[1, 2.0], [0.5, 3]]}", Curve("piecewise", [(1, 2), (0.5, 3)]), None),
    (PerEpoch[Fraction], "{cosine: [[0, 8/255]]}", Curve("cosine", [(0, EIGHT)]), {"cosine": [[0, "8/255"]]}),
    (PerEpoch[int | float], "{piecewise: [[0, 1], [1, 1.0]]}", Curve("piecewise", [(0, 1), (1, 1.0)]), None),
    (Annotated[PerEpoch[int] | None, Ge(1)], "{linear: [[0, 2]]}", Curve("linear", [(0, 2)]), {"linear": [[0, 2]]}),
    (PerEpoch[Color], "{piecewise: [[0, red]]}", Curve("piecewise", [(0, Color.RED)]), {"piecewise": [[0, "red"]]}),
    (
        list[PerEpoch[float]],
        "[1, {linear: [[0, 0], [10, 0.5]]}]",
        [1.0, LINE],
        [1.0, {"linear": [[0, 0.0], [10, 0.5]]}],
    ),
]


# Of what does not depend on the order of a set: every process of a parallel run must name the tests alike.
NAMES = [f"{case[0]} {case[1]}"[:60] for case in CASES]


@pytest.mark.parametrize(("annotation", "text", "value", "written"), CASES, ids=NAMES)
def test_a_value_of_a_config_is_read_by_its_type_and_written_as_it_was(
    annotation: Any, text: str, value: Any, written: Any
):
    made = component(annotation)
    built, resolved = construct(made, {"value": parse_yaml(text, "text").value}, Place("made"))
    assert built == value
    assert type(built) is type(value) or isinstance(value, set)
    assert written is None or resolved == {"value": written}
    again = parse_yaml(dump_config(resolved), "again").value  # what a run's config.yaml says
    assert construct(made, again, Place("made"))[0] == value


@pytest.mark.parametrize(("annotation", "text", "value", "written"), CASES, ids=NAMES)
def test_a_value_that_code_gives_and_a_default_stand_as_they_are(annotation: Any, text: str, value: Any, written: Any):
    built, resolved = construct(component(annotation), {"value": value}, Place("made"))
    assert built == value
    defaults = construct(component(annotation, value), {}, Place("made"))[1]
    assert defaults == resolved
    dump_config(defaults)
    (row,) = keys_of(settings_model(component(annotation, value)))
    assert row["type"] != "any"
    dump_config({"default": row["default"]})


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Path, 3, r"made\.value: expected an instance of Path, got 3"),
        (set[int], "ab", r"made\.value: expected a valid set, got 'ab'"),
        (set[int], ["a"], r"made\.value\.0: expected a valid integer, got 'a'"),
        (set[int], {"a": 1}, r"made\.value: expected a valid set"),
        (tuple[int, int], [1], r"made\.value.*: expected more values"),
        (Color, "green", r"made\.value: expected one of red, blue, got 'green'"),
        (Level, True, r"made\.value: expected one of 1, 2, got True"),
        (list[Color], ["green"], r"made\.value\.0: expected one of red, blue, got 'green'"),
        (Fraction, "a", r"made\.value: expected a finite number or a fraction like 8/255, got 'a'"),
        (Annotated[Fraction, Ge(0)], "-1/3", r"made\.value: .*greater than or equal to 0"),
        (datetime.date, "soon", r"made\.value: expected a valid date"),
        (Plain, {"a": "x"}, r"made\.value: expected the fields of Plain, got \{'a': 'x'\}: a: "),
        (Color, {"a": [1]}, r"made\.value: expected one of red, blue"),
        (Color, [], r"made\.value: expected one of red, blue"),
        (PerEpoch[float], "x", r"value: expected a valid number, got 'x'$"),
        (
            PerEpoch[float],
            {"linaer": [[0, 1]]},
            r"value: expected a shape, got 'linaer'; did you mean 'linear'\?$",
        ),
        (PerEpoch[float], {}, r"value: expected one schedule over epochs, {linear: .*}, got {}$"),
        (PerEpoch[float], {"linear": "ab"}, r"value: linear, expected points .*, at least one, got 'ab'$"),
        (
            PerEpoch[float],
            {"linear": [[0, 1], [0, 2]]},
            r"value: linear, expected increasing epochs, got \[0, 0\]$",
        ),
        (
            PerEpoch[float],
            {"linear": [[0, 1], [2, "x"]]},
            r"value: linear, point 2: expected a valid number, got 'x'$",
        ),
        (
            PerEpoch[float],
            {"linear": [[1.5, 1]]},
            r"value: linear, point 1: expected a 0-based epoch .* got 1.5$",
        ),
        (Annotated[PerEpoch[int] | None, Ge(1)], {"linear": [[0, 0]]}, r"linear, point 1: .* equal to 1, got 0$"),
        (Annotated[PerEpoch[int] | None, Ge(1)], 0, r"value: expected greater than or equal to 1, got 0$"),
        (PerEpoch[Annotated[int, Ge(1)]], {"linear": [[0, 0]]}, r"value: linear, point 1: .* equal to 1, got 0$"),
        (
            PerEpoch[Fraction],
            {"linear": [[0, "8/0"]]},
            r"value: linear, point 1: .* got '8/0' \(division by zero\)$",
        ),
        (PerEpoch[int] | None, {"piecewise": [[0, None]]}, r"value: piecewise, point 1: .* got None$"),
    ],
)
def test_another_value_is_refused_in_one_line(annotation: Any, value: Any, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        construct(component(annotation), {"value": value}, Place("made"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [
        Callable[[int], int],
        Callable,
        Callable[[int], int] | None,
        list[Callable[..., Any]],
        type,
        type[torch.nn.Module],
        torch.dtype,
        torch.Tensor,
        torch.nn.Module | str,
    ],
    ids=str,
)
def test_a_setting_that_nothing_in_a_config_can_be_is_refused_by_name(annotation: Any):
    for made in (component(annotation), component(annotation, None)):
        with pytest.raises(
            PluginError,
            match=r"^made: Made: setting 'value' is a .*, and nothing in a config .* \(test_plain\.py:\d+\)$",
        ):
            construct(made, {}, Place("made"))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads this type from Python 3.12 on")
def test_a_type_that_pydantic_cannot_read_is_refused_in_one_line():
    with pytest.raises(
        PluginError,
        match=r"^made: Made: its settings cannot be read: Please use `typing_extensions",
    ):
        construct(component(Typed), {}, Place("made"))


def test_a_default_that_no_config_can_hold_is_refused_by_name():
    with pytest.raises(PluginError, match=r"^made\.value: <object object .*> is a object, which no config can hold$"):
        construct(component(Any, object()), {}, Place("made"))


def test_a_set_is_written_in_one_order_whatever_the_hash_seed():
    assert plain({"b", "a", "c"}) == ["a", "b", "c"]
    assert plain(frozenset({("b", 1), ("a", 2)})) == [["a", 2], ["b", 1]]
