"""Numbers as text: their size is judged by how they are written, before anything is computed. Loads no torch."""

import re
from fractions import Fraction
from math import isfinite

LONGEST = 400
"""Number of characters that a number may have: more than any float needs in plain digits."""
LARGEST_EXPONENT = 400
"""Largest power of ten, up or down: a float ends at 308 and -324."""

_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d+))?", re.ASCII)
_FRACTION = re.compile(r"[-+]?\d+/\d+", re.ASCII)


def is_fraction(text: str) -> bool:
    """Whether ``text`` is written as a fraction of integers, like ``8/255``."""
    return _FRACTION.fullmatch(text) is not None


def expect_moderate(text: str) -> None:
    """Refuse the text of a number that only a long computation could turn into one.

    Raises:
        ValueError: more than ``LONGEST`` characters, or an exponent beyond ``LARGEST_EXPONENT``.
    """
    if len(text) > LONGEST:
        raise ValueError(f"expected a number of at most {LONGEST} characters, got {len(text):,}")
    match = _DECIMAL.fullmatch(text)
    exponent = match["exponent"] if match else None
    if exponent is not None and abs(int(exponent)) > LARGEST_EXPONENT:
        raise ValueError(f"expected a number that a float can hold, got an exponent beyond {LARGEST_EXPONENT}")


def exact_number(text: str) -> Fraction:
    """The number that ``text`` stands for, exactly: ``8/255``, ``0.031``, ``2e-3``; blanks make no difference.

    Raises:
        ValueError: not a finite number in plain digits, or one that a float cannot hold.
    """
    plain = re.sub(r"\s", "", text)
    expect_moderate(plain)
    if not (_DECIMAL.fullmatch(plain) or _FRACTION.fullmatch(plain)):
        raise ValueError(f"expected a finite number or a fraction like 8/255, got {text!r}")
    try:
        exact = Fraction(plain)
        expect_float(exact)
    except ZeroDivisionError:
        raise ValueError(f"expected a finite fraction like 8/255, got {text!r} (division by zero)") from None
    return exact


def expect_float(exact: Fraction | int) -> None:
    """Refuse a number that a float would turn into infinity, or into zero without being zero.

    Raises:
        ValueError: it is too large or too small.
    """
    try:
        rounded = float(exact)
    except OverflowError:
        raise ValueError("expected a number that a float can hold, got a larger one") from None
    if exact and not rounded:
        raise ValueError("expected a number that a float can hold, got a smaller one that is not 0")


def read_float(text: str) -> float:
    """The float that a number in plain digits, or ``inf`` or ``nan``, stands for.

    Raises:
        ValueError: see ``expect_moderate``; or a float would make it infinite, or zero without its being zero.
    """
    expect_moderate(text)
    value = float(text)
    if _DECIMAL.fullmatch(text):
        expect_float(Fraction(text))
    return value


def read_integer(text: str) -> int:
    """The integer that digits stand for, also ``0x1f`` and ``0o17``.

    Raises:
        ValueError: see ``expect_moderate``; or no integer.
    """
    expect_moderate(text)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def exact_fraction(value: object) -> Fraction:
    """``"8/255"``, ``"0.031"``, ``8/255``-like strings and plain numbers, exact as they are written.

    Raises:
        ValueError: not a finite number that a float can hold, a division by zero, or a text of unreasonable length.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected a number or a fraction like 8/255, got {value!r}")
    if isinstance(value, int):
        expect_float(value)
        return Fraction(value)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"expected a finite number or a fraction like 8/255, got {value!r}")
    return exact_number(str(value))


class Word(str):
    """A word of a config, without quotes, that is text in YAML 1.2 and a value in other languages: ``no``, ``off``.

    The type of the setting decides which is meant; in quotes it is text.
    """

    __slots__ = ()


FLAGS = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}


def read_flag(value: object) -> bool:
    meant = FLAGS.get(value.lower()) if isinstance(value, Word) else value
    if not isinstance(meant, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return meant


def read_number(value: object) -> object:
    return float(exact_fraction(value)) if isinstance(value, str) and "/" in value else value
