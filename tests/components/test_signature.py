"""Settings come from the signature, are checked strictly, and every message names the key."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt
from pydantic import BaseModel

from buttress.components.place import Place
from buttress.components.signature import documentation_of, settings_model, signature_of
from buttress.components.validation import validate
from buttress.errors import ConfigError, PluginError
from buttress.number_text import Word, exact_fraction
from buttress.settings import Epoch, NonNegativeFraction, resolve_epoch


class Component:
    """A component.

    Args:
        steps: how many
            of them.
        size: in pixels: exact.
        mode: one or the other.
        start: when.
        rate: of something.
        flag: yes or no.
        pair: two numbers.
        options: of something else.

    Not: part of the settings.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(1)],
        size: NonNegativeFraction = Fraction(1, 4),
        mode: Literal["one", "other"] = "one",
        start: Epoch = 0.5,
        rate: Annotated[float, Gt(0)] = 1.0,
        flag: bool = False,
        pair: tuple[float, float] = (0.1, 0.2),
        options: dict[str, Any] = {},  # noqa: B006
    ) -> None: ...


def checked(**values: Any) -> BaseModel:
    return validate(settings_model(Component), values, Place("component"))


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("steps", 7, 7),
        ("steps", 7.0, 7),
        ("size", "8/255", Fraction(8, 255)),
        ("size", 0.1, Fraction(1, 10)),
        ("size", 0, Fraction(0)),
        ("mode", "other", "other"),
        ("start", 60, 60),
        ("start", 0, 0),
        ("start", 0.4, 0.4),
        ("rate", 2, 2.0),
        ("rate", "1/10", 0.1),
        ("flag", Word("no"), False),
        ("flag", Word("Off"), False),
        ("flag", Word("YES"), True),
        ("pair", [1, "1/2"], (1.0, 0.5)),
        ("options", {"a": ["no"]}, {"a": ["no"]}),
    ],
)
def test_settings_are_taken(key: str, value: Any, kept: Any):
    setting = getattr(checked(**{"steps": 1, key: value}), key)
    assert setting == kept
    assert type(setting) is type(kept)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 0, r"^component\.steps: .*greater than or equal to 1, got 0$"),
        ("steps", "7", r"^component\.steps: expected a valid integer, got '7'$"),
        ("steps", 7.5, r"^component\.steps: expected a valid integer, got 7\.5"),
        ("steps", True, r"^component\.steps: expected a valid integer, got True$"),
        ("steps", None, r"^component\.steps: expected a valid integer, got None$"),
        ("size", "-1", r"^component\.size: expected a value >= 0, got '-1'$"),
        ("size", "1/0", r"^component\.size: expected a finite fraction like 8/255, got '1/0' \(division by zero\)$"),
        ("size", float("nan"), r"^component\.size: expected a finite number or a fraction like 8/255, got nan$"),
        ("size", [1], r"^component\.size: expected a number or a fraction like 8/255, got \[1\]$"),
        ("mode", "both", r"^component\.mode: expected 'one' or 'other', got 'both'$"),
        ("start", 1.0, r"^component\.start: expected a 0-based epoch .* or a fraction .* in \(0, 1\), got 1\.0$"),
        ("start", 0.0, r"^component\.start: .*got 0\.0$"),
        ("start", -1, r"^component\.start: .*got -1$"),
        ("start", True, r"^component\.start: .*got True$"),
        ("start", float("nan"), r"^component\.start: .*got nan$"),
        ("start", "0.5", r"^component\.start: .*got '0\.5'$"),
        ("rate", float("inf"), r"^component\.rate: .*finite"),
        ("rate", float("nan"), r"^component\.rate: .*(finite|greater)"),
        ("rate", "1.0", r"^component\.rate: expected a valid number, got '1\.0'$"),
        ("rate", "-1/10", r"^component\.rate: expected greater than 0, got -0\.1$"),
        ("rate", "1/0", r"^component\.rate: expected a finite fraction like 8/255"),
        ("flag", "no", r"^component\.flag: expected true or false, got 'no'$"),
        ("flag", 0, r"^component\.flag: expected true or false, got 0$"),
        ("pair", [1, 2, 3], r"^component\.pair: .*at most 2"),
        (
            "options",
            {"a": [Word("no")]},
            r"^component\.options\.a: expected true, false or null, or quotes .* got no$",
        ),
        ("stepz", 3, r"^component\.stepz: unknown key; did you mean 'steps'\?$"),
        ("zzz", 3, r"^component\.zzz: unknown key; known: flag, mode, options, pair, rate, size, start, steps$"),
    ],
)
def test_wrong_settings_are_refused_with_key_and_value(key: str, value: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        checked(**{"steps": 1, key: value})


def test_every_problem_is_in_one_message():
    with pytest.raises(ConfigError) as caught:
        checked(mode="both", stepz=1)
    assert sorted(line.split(":")[0] for line in str(caught.value).splitlines()) == [
        "component.mode",
        "component.steps",
        "component.stepz",
    ]


def test_a_missing_setting_is_named():
    with pytest.raises(ConfigError, match=r"^component\.steps: required, and not given$"):
        checked()


def test_exact_numbers_are_written_back_as_they_were_given():
    assert checked(steps=1, size="8/255").model_dump()["size"] == "8/255"
    assert exact_fraction(checked(steps=1, size=0.031).model_dump()["size"]) == Fraction(31, 1000)


def test_the_schema_carries_the_documentation():
    properties = settings_model(Component).model_json_schema()["properties"]
    assert properties["steps"]["description"] == "how many of them."
    assert properties["size"]["description"] == "in pixels: exact."


def test_documentation_is_the_args_section_and_no_more():
    assert documentation_of(Component) == {
        "steps": "how many of them.",
        "size": "in pixels: exact.",
        "mode": "one or the other.",
        "start": "when.",
        "rate": "of something.",
        "flag": "yes or no.",
        "pair": "two numbers.",
        "options": "of something else.",
    }


def test_a_component_without_docstring_has_no_documentation():
    class Bare:
        def __init__(self, *, a: int = 1) -> None: ...

    Bare.__doc__ = None
    assert documentation_of(Bare) == {}


class Positional:
    def __init__(self, steps: int) -> None: ...


class PositionalUntyped:
    def __init__(self, steps=3) -> None: ...


class PositionalCallable:
    def __init__(self, steps: Callable[[int], float]) -> None: ...


class Variadic:
    def __init__(self, *steps: int) -> None: ...


class AnyKey:
    def __init__(self, **settings: int) -> None: ...


class Unannotated:
    def __init__(self, *, steps=3) -> None: ...


@dataclass
class PositionalData:
    steps: int = 3


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Positional, r"Positional: setting 'steps' must be keyword-only: put '\*' .*\(test_signature\.py:\d+\)$"),
        (
            PositionalData,
            r"PositionalData: setting 'steps' must be keyword-only.*kw_only=True on the .*\(test_signature\.py:\d+\)$",
        ),
        (PositionalUntyped, r"setting 'steps' must be keyword-only: put .*; and needs a type annotation \("),
        (
            PositionalCallable,
            r"setting 'steps' must be keyword-only: put .*; and is a .*Callable.*; take a name \(str\)",
        ),
        (Variadic, r"Variadic: setting 'steps' must be keyword-only"),
        (AnyKey, r"AnyKey: setting 'settings' must be keyword-only"),
        (Unannotated, r"Unannotated: setting 'steps' needs a type annotation"),
    ],
)
def test_positional_and_unannotated_settings_are_refused(component: Any, message: str):
    with pytest.raises(PluginError, match=message):
        signature_of(component)


def test_keyword_only_dataclasses_and_functions_are_components():
    @dataclass(kw_only=True, eq=False)
    class Data:
        steps: int = 3

    def function(*, steps: int = 4) -> None: ...

    assert settings_model(Data)().model_dump() == {"steps": 3}
    assert settings_model(function)().model_dump() == {"steps": 4}


def test_a_default_that_a_dataclass_makes_anew_is_read_as_its_value():
    @dataclass(kw_only=True, eq=False)
    class Data:
        layers: list[int] = field(default_factory=lambda: [3, 4])
        state: dict[str, int] = field(init=False, default_factory=dict)

    (layers,) = signature_of(Data)
    assert layers.default == [3, 4]
    schema = settings_model(Data).model_json_schema()
    assert schema["properties"]["layers"]["default"] == [3, 4]
    assert "layers" not in schema.get("required", ())


def test_settings_that_the_core_gives_are_not_asked_for():
    def function(*, num_classes: int, width: int = 4) -> None: ...

    model = settings_model(function, frozenset({"num_classes"}))
    assert model().model_dump() == {"width": 4}
    with pytest.raises(ConfigError, match="num_classes: unknown key"):
        validate(model, {"num_classes": 3}, Place("net"))


# Epochs


@pytest.mark.parametrize(
    ("value", "epochs", "epoch"),
    [
        (0, 10, 0),
        (60, 120, 60),
        (130, 120, 130),
        (60, None, 60),
        (0.5, 120, 60),
        (0.5, 5, 2),
        (0.4, 48, 19),
        (0.29, 100, 29),  # 0.29 * 100 is 28.999... in binary
        (0.7, 10, 7),
        (0.999, 10, 9),
        (0.001, 10, 0),
        (1e-05, 200_000, 2),
    ],
)
def test_a_fraction_of_the_epochs_is_floored_in_exact_arithmetic(value: Any, epochs: Any, epoch: int):
    assert resolve_epoch(value, epochs) == epoch


def test_a_fraction_needs_the_number_of_epochs():
    with pytest.raises(ConfigError, match=r"0\.5 is a fraction of the epochs, but their number is unknown"):
        resolve_epoch(0.5, None)
