"""Numbers and words as a config writes them; the size of a number is checked before computing it. Loads no torch."""

import re
from fractions import Fraction
from math import isfinite

LONGEST = 400
"""Largest number of characters of a number, more than any float needs in plain digits."""
LARGEST_EXPONENT = 400
"""Largest power of ten, up or down: a float ends at 308 and -324."""

_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d+))?", re.ASCII)
_FRACTION = re.compile(r"[-+]?\d+/\d+", re.ASCII)


def is_fraction(text: str) -> bool:
    """Whether ``text`` is written as a fraction of integers, like ``8/255``."""
    return _FRACTION.fullmatch(text) is not None


def expect_moderate(text: str) -> None:
    """Refuse text that only a long computation could turn into a number.

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
    """The number that ``text`` stands for, exactly: ``8/255``, ``0.031``, ``2e-3``; blanks are ignored.

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
    """The float of a number in plain digits, or of ``inf`` or ``nan``.

    Raises:
        ValueError: see ``expect_moderate``; or the number is not zero and would become infinite or zero.
    """
    expect_moderate(text)
    value = float(text)
    if _DECIMAL.fullmatch(text):
        expect_float(Fraction(text))
    return value


def read_integer(text: str) -> int:
    """The integer of digits, also of ``0x1f`` and ``0o17``.

    Raises:
        ValueError: see ``expect_moderate``; or the text is no integer.
    """
    expect_moderate(text)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def exact_fraction(value: object) -> Fraction:
    """The exact value of a number or its text: ``"8/255"``, ``"0.031"``, ``0.031``.

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
    """An unquoted word of a config that is text in YAML 1.2 and a value in other languages: ``no``, ``off``.

    The type of the setting decides whether it is text or a value; in quotes it is text.
    """

    __slots__ = ()


FLAGS = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}
"""Word, in lower case, to the bool that it may stand for."""


def read_flag(value: object) -> bool:
    """The bool that a value of a config stands for.

    Raises:
        ValueError: it is neither a bool nor an unquoted word like ``no``.
    """
    flag = FLAGS.get(value.lower()) if isinstance(value, Word) else value
    if not isinstance(flag, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return flag


def read_number(value: object) -> object:
    """The float of a fraction like ``"1/10"``; every other value as it is.

    Raises:
        ValueError: see ``exact_fraction``.
    """
    return float(exact_fraction(value)) if isinstance(value, str) and "/" in value else value
