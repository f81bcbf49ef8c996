"""Arguments of classes and functions that are not buttress's: each of the type that its parameter expects."""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from buttress.components.arguments import read_arguments
from buttress.components.place import Place
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError


class Colour(Enum):
    RED = "red"


def net(
    width: int,
    p: float = 0.5,
    bias: bool = True,
    name: str = "a",
    size: int | tuple[int, int] = 3,
    pair: tuple[float, float] = (0.1, 0.2),
    many: Sequence[float] = (),
    weight: float | Tensor = 0.0,
    act: Callable[[Tensor], Tensor] | None = None,
    norm: nn.Module | None = None,
    mode: Literal["off", "fast"] = "off",
    auto: bool | Literal["auto"] = "auto",
    maybe: bool = None,  # type: ignore[assignment]  # noqa: RUF013  (as people write it)
    switch: bool | str = False,
    path: Path = Path("x"),
    settings: dict[str, Any] = {},  # noqa: B006
    missing: "Unknown" = None,  # type: ignore[name-defined]  # noqa: F821
) -> None: ...


def bare(width, p=0.5, n=3, bias=True, name="a", pair=(1, 2), nothing=None, **others): ...


def read(function: Callable[..., Any], text: str) -> dict[str, Any]:
    return read_arguments(function, parse_yaml(f"{{{text}}}", "").value, Place("args"))


@pytest.mark.parametrize(
    ("function", "text", "expected"),
    [
        (net, "bias: no", False),
        (net, "bias: Off", False),
        (net, "bias: yes", True),
        (net, "bias: on", True),
        (net, "bias: n", False),
        (net, "bias: false", False),
        (net, "p: 1/10", 0.1),
        (net, "p: 1", 1.0),
        (net, "width: 7", 7),
        (net, "name: no", "no"),
        (net, "name: 1/10", "1/10"),
        (net, "size: 5", 5),
        (net, "size: [5, 6]", (5, 6)),
        (net, "pair: [0.9, 99/100]", (0.9, 0.99)),
        (net, "many: [1/2]", [0.5]),
        (net, "weight: 1/1000", 0.001),
        (net, "act: null", None),
        (net, "mode: off", "off"),
        (net, "auto: auto", "auto"),
        (net, "auto: no", False),
        (net, "maybe: no", False),
        (net, "maybe: null", None),
        (net, "switch: off", "off"),
        (net, "path: a/b", Path("a/b")),
        (net, "settings: {deep: [1, 'no']}", {"deep": [1, "no"]}),
        (net, "settings: {rate: 1/10, deep: [1/4]}", {"rate": 0.1, "deep": [0.25]}),
        (net, "missing: text", "text"),
        (bare, "bias: off", False),
        (bare, "bias: null", None),
        (bare, "p: 1/10", 0.1),
        (bare, "p: 2", 2),
        (bare, "n: 3/2", 1.5),
        (bare, "n: 4", 4),
        (bare, "name: on", "on"),
        (bare, "name: 3", 3),
        (bare, "pair: [3, 4]", (3, 4)),
        (bare, "pair: 3", 3),
        (bare, "width: 'no'", "no"),
        (bare, "other: [1, 2]", [1, 2]),
        (bare, "other: 1/4", 0.25),
        (bare, "other: {deep: [-1/2, a/b, 1/2/3]}", {"deep": [-0.5, "a/b", "1/2/3"]}),
        (bare, "width: 1/8", 0.125),
        (bare, "nothing: 3/2", 1.5),
        (torch.optim.SGD, "maximize: no", False),
        (torch.optim.SGD, "foreach: null", None),
        (torch.optim.Adam, "betas: [0.9, 0.99]", (0.9, 0.99)),
        (torch.optim.Adam, "eps: 1/100", 0.01),
        (torch.optim.Adafactor, "eps: [null, 1/1000]", (None, 0.001)),
        (torch.optim.Rprop, "step_sizes: [1e-6, 50]", (1e-6, 50.0)),
    ],
)
def test_values_become_what_the_parameter_expects(function: Callable[..., Any], text: str, expected: Any):
    (argument,) = read(function, text).values()
    assert argument == expected
    assert type(argument) is type(expected)


@pytest.mark.parametrize(
    ("function", "text", "message"),
    [
        (net, "bias: 'no'", r"^args\.bias: expected true or false, got 'no'$"),
        (net, "bias: 'false'", r"^args\.bias: expected true or false, got 'false'$"),
        (net, "bias: 1", r"^args\.bias: expected true or false, got 1$"),
        (net, "bias: None", r"^args\.bias: expected true or false, got 'None'$"),
        (net, "p: no", r"^args\.p: expected a valid number, got 'no'$"),
        (net, "p: 1/0", r"^args\.p: expected a finite fraction like 8/255, got '1/0' \(division by zero\)$"),
        (net, "width: 8.5", r"^args\.width: expected a valid integer, got 8\.5"),
        (net, "width: no", r"^args\.width: expected a valid integer, got 'no'$"),
        (net, "size: big", r"^args\.size: expected a valid integer or a valid tuple, got 'big'$"),
        (net, "pair: [0.9, many]", r"^args\.pair\.1: expected a valid number, got 'many'$"),
        (net, "pair: 3", r"^args\.pair: expected a valid tuple, got 3$"),
        (net, "act: off", r"^args\.act: expected true, false or null, or quotes around a text \('off'\), got off$"),
        (net, "norm: None", r"^args\.norm: expected true, false or null, or quotes .* got None$"),
        (net, "settings: {deep: [no]}", r"^args\.settings\.deep: expected true, false or null, or quotes"),
        (net, "widht: 3", r"^args\.widht: unknown key; did you mean 'width'\?$"),
        (bare, "bias: maybe", r"^args\.bias: expected true or false, got 'maybe'$"),
        (bare, "width: yes", r"^args\.width: expected true, false or null, or quotes"),
        (bare, "n: off", r"^args\.n: expected true, false or null, or quotes"),
        (bare, "nothing: None", r"^args\.nothing: expected true, false or null, or quotes"),
        (bare, "width: 1/0", r"^args\.width: expected a finite fraction like 8/255, got '1/0' \(division by zero\)$"),
        (bare, "other: {a: no}", r"^args\.other: expected true, false or null, or quotes"),
    ],
)
def test_what_is_no_such_value_is_refused_by_name(function: Callable[..., Any], text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        read(function, text)


def test_every_problem_has_a_line_and_unknown_names_come_first():
    with pytest.raises(ConfigError) as caught:
        read(net, "bias: 1, p: x, widht: 3")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["args.widht", "args.bias", "args.p"]


def test_a_parameter_that_is_taken_is_unknown():
    with pytest.raises(ConfigError, match=r"args\.params: unknown key"):
        read_arguments(torch.optim.SGD, {"params": 1}, Place("args"), taken=("params",))


def test_a_callable_whose_signature_nobody_knows_takes_what_it_is_given():
    assert read_arguments(dict, {"a": 1}, Place("args")) == {"a": 1}
