"""Types for the settings of plugins, models, data sets and schedules. Loads no torch.

A setting is a keyword-only, annotated parameter of a component's ``__init__``. Beside the types of Python, these may
stand in its annotation.
"""

from fractions import Fraction
from math import floor, inf
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval
from pydantic import AfterValidator, AllowInfNan, BeforeValidator, PlainSerializer, WithJsonSchema

from buttress.epochs import Curve, Epoch, Moment, PerEpoch, resolve_epoch, resolve_moment, values_of
from buttress.number_text import exact_fraction, read_flag, read_number

__all__ = [
    "Amount",
    "Curve",
    "Epoch",
    "ExactFraction",
    "File",
    "Flag",
    "Moment",
    "NonNegative",
    "NonNegativeFraction",
    "NonNegativeOrInf",
    "Number",
    "PerEpoch",
    "Share",
    "Times",
    "expect_fitting_ascent",
    "resolve_amount",
    "resolve_epoch",
    "resolve_moment",
    "values_of",
]

Flag = Annotated[bool, BeforeValidator(read_flag)]
"""``true`` or ``false``; ``yes``, ``no``, ``on`` and ``off`` without quotes are taken too."""
Number = Annotated[float, BeforeValidator(read_number)]
"""A number, which may be written as a fraction: ``1/10``."""


def _non_negative(value: object) -> Fraction:
    number = exact_fraction(value)
    if number < 0:
        raise ValueError(f"expected a value >= 0, got {value!r}")
    return number


def _share(value: object) -> Fraction:
    number = exact_fraction(value)
    if not 0 < number < 1:
        raise ValueError(f"expected a share in (0, 1), got {value!r}")
    return number


_AS_TEXT = PlainSerializer(str, return_type=str)
_FRACTION_SCHEMA = WithJsonSchema({"type": ["number", "string"], "description": "a number or a fraction like 8/255"})

ExactFraction = Annotated[Fraction, BeforeValidator(exact_fraction), _AS_TEXT, _FRACTION_SCHEMA]
"""A number kept exactly as written: ``8/255``."""
NonNegativeFraction = Annotated[Fraction, BeforeValidator(_non_negative), _AS_TEXT, _FRACTION_SCHEMA]
"""An exact number >= 0."""
Share = Annotated[Fraction, BeforeValidator(_share), _AS_TEXT, _FRACTION_SCHEMA]
"""An exact number in (0, 1): ``1/2``."""


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise ValueError(f"expected a file, got a folder: {path}")
    if not path.is_file():
        raise ValueError(f"expected a file, got nothing: {path} does not exist")
    return path.absolute()


File = Annotated[Path, AfterValidator(_existing), _AS_TEXT]
"""A file that exists. A relative path is looked up beside the config first, then in the working folder, and one of the
command line in the working folder alone. A run records the file with its SHA-256, and does not go on with another one.
"""


def _infinite(value: object) -> object:
    return inf if value in ("inf", ".inf") else value


Times = Annotated[int, Interval(ge=1, le=100_000)]
"""A number of repetitions, at most 100,000: more would never end."""
NonNegative = Annotated[float, Ge(0)]
"""A finite number >= 0."""
NonNegativeOrInf = Annotated[
    float,
    Ge(0),
    AllowInfNan(True),  # not Field(...): before pydantic 2.12 that drops validators that come after it
    BeforeValidator(_infinite),
    PlainSerializer(lambda value: "inf" if value == inf else value),
]
"""A number >= 0, or ``inf``."""


def _amount(value: object) -> int | float:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    share = read_number(value)
    if isinstance(share, float) and 0 < share < 1:
        return share
    raise ValueError(f"expected a number of examples (integer >= 0) or a share of them in (0, 1), got {value!r}")


Amount = Annotated[int | float, BeforeValidator(_amount)]
"""An integer is a number of examples, a float in (0, 1) or a fraction like 1/5 a share of them, floored."""


def resolve_amount(value: int | float, n: int) -> int:
    """The number of examples, of ``n``, of an ``Amount`` setting; exact: 0.29 of 100 is 29, 1/3 of 60 is 20."""
    return value if isinstance(value, int) else floor(Fraction(str(value)).limit_denominator(10**9) * n)


def expect_fitting_ascent(ascent: str, exit_order: str) -> None:
    """Expect of a weight perturbation of each process's own that it is taken back before the optimizer's step.

    Raises:
        ValueError: it is not, so that weight decay, at weights that differ, would make the processes' weights differ.
    """
    if ascent == "local" and exit_order != "restore_then_step":
        raise ValueError(
            "ascent: local needs exit_order: restore_then_step, since weight decay at perturbed weights, which differ "
            f"between the processes, would make their weights differ; got exit_order: {exit_order}"
        )
