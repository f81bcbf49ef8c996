"""The space of a search, as the command line gives it: ranges, choices and fixed values. Loads no torch.

rwp.gamma=log(1e-3,1e-1)   log-uniform between two numbers
rwp.c_min=0.5:3.0          uniform between two numbers; whole ones where both ends and the setting are whole
schedule.name=cosine,piecewise   one of several values
epochs=10                  fixed, an override as in ``train``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from buttress.comparing.sweep import split_values
from buttress.errors import ConfigError
from buttress.number_text import exact_number

_WHOLE = re.compile(r"[-+]?[0-9]+")
_CALL = re.compile(r"([A-Za-z_]+)\((.*)\)?", re.DOTALL)
# A colon between two texts of which the first begins like a number: ``1:3``, ``0.5:``, and not ``cuda:0``.
_RANGE = re.compile(r"\s*([-+.0-9][^:,]*):([^,]*)")
# Keys that decide how well a run does at its examination, and not how it is trained.
_EXAMINATION = ("evaluation", "threat.norm", "threat.eps", "threat.box")
_NOT_SEARCHED = {
    "seed": "the seeds of every trial are given by --seeds",
    "name": "the name of a search is given by --name",
    "plugins": "a list of plugins cannot be searched; search their settings: PLUGIN.SETTING=a,b",
}


@dataclass(frozen=True)
class Range:
    """A setting between two numbers, both included.

    Args:
        key: key of the config.
        low, high: its ends.
        log: whether its logarithm is uniform.
        whole: whether only whole numbers are drawn; ends that are written as whole numbers allow it.
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def between(self) -> str:
        """A value in it that is no whole number, for a setting to accept or to refuse."""
        return write_number(self.low + 0.5)

    @property
    def ends(self) -> tuple[str, str]:
        """Its lowest and its highest value, as an override has them."""
        return self.write(self.low), self.write(self.high)

    def write(self, value: float) -> str:
        """A value of it, as an override has it."""
        return str(int(value)) if self.whole else write_number(value)

    def __str__(self) -> str:
        """Everything that makes it this range; equal for ``0:0.1`` and ``0.0:1/10``."""
        low, high = self.ends
        whole = ", whole numbers" if self.whole else ""
        return f"log({low},{high}){whole}" if self.log else f"{low}:{high}{whole}"


@dataclass(frozen=True)
class SearchedChoice:
    """A setting that has one of several values.

    Args:
        key: key of the config.
        values: values as overrides have them, in YAML.
    """

    key: str
    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """Its values."""
        return self.values

    def __str__(self) -> str:
        return ",".join(self.values)


Dimension = Range | SearchedChoice


@dataclass(frozen=True)
class Space:
    """The settings that are searched, and overrides that hold in every trial."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    def points(self) -> list[dict[str, str]]:
        """Key to value at points that show most mistakes: all lowest, all highest, and every value of a choice."""
        lowest = {each.key: each.ends[0] for each in self.dimensions}
        highest = {each.key: each.ends[-1] for each in self.dimensions}
        inner = [
            {**lowest, each.key: value}
            for each in self.dimensions
            if isinstance(each, SearchedChoice)
            for value in each.values[1:]
        ]
        return [lowest, *[point for point in [*inner, highest] if point != lowest]]

    def with_whole_numbers(self, takes_fractions: Callable[[str, str], bool]) -> Space:
        """This space, in which ranges of settings that are whole numbers have whole numbers alone.

        Args:
            takes_fractions: whether the setting ``key`` takes a value that is no whole number.
        """

        def settled(each: Dimension) -> Dimension:
            if isinstance(each, SearchedChoice) or not each.whole:
                return each
            return replace(each, whole=not takes_fractions(each.key, each.between))

        return replace(self, dimensions=tuple(settled(each) for each in self.dimensions))


def read_space(words: Sequence[str]) -> Space:
    """The space that the words of a command line describe.

    Args:
        words: ``key=log(a,b)``, ``key=a:b``, ``key=a,b,c`` and ``key=value``.

    Raises:
        ConfigError: a word is none of these, a key comes twice or cannot be searched, or there is nothing to search.
    """
    dimensions: list[Dimension] = []
    fixed: list[str] = []
    keys: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key or not text.strip():
            raise ConfigError(
                "expected key=log(a,b), key=a:b or key=a,b,c to search it, or key=value", key=_place(word)
            )
        if key in keys:
            raise ConfigError(f"{key} is given twice; give it once", key=_place(word))
        keys.add(key)
        _expect_not_given_otherwise(key, word)
        dimension = _dimension(key, text.strip(), word)
        if dimension is None:
            fixed.append(word)
        else:
            _expect_searchable(key, word)
            dimensions.append(dimension)
    if not dimensions:
        raise ConfigError("nothing to search; give at least one range or choice: key=log(a,b), key=a:b or key=a,b,c")
    return Space(tuple(dimensions), tuple(fixed))


def write_number(value: float) -> str:
    """A float as YAML reads it back, exactly."""
    return repr(float(value))


def _dimension(key: str, text: str, word: str) -> Dimension | None:
    """The dimension that a text describes; None for a fixed value."""
    values = split_values(text)
    if call := _CALL.fullmatch(values[0]) if len(values) == 1 else _CALL.match(text):
        return _logarithmic(key, text, call[1], word)
    if len(values) > 1:
        if not all(values) or len(set(values)) < len(values):
            raise ConfigError("expected different values between the commas", key=_place(word))
        return SearchedChoice(key, tuple(values))
    if match := _RANGE.fullmatch(text):
        return _range(key, text, match.groups(), word, log=False)
    return None


def _logarithmic(key: str, text: str, function: str, word: str) -> Range:
    inside = re.fullmatch(r"log\((.*)\)", text, re.DOTALL)
    ends = inside[1].split(",") if inside else []
    if len(ends) != 2:
        hint = "" if function == "log" else f"; there is no {function}(...)"
        raise ConfigError(f"expected log(a,b) with two numbers 0 < a < b{hint}", key=_place(word))
    return _range(key, text, ends, word, log=True)


def _range(key: str, text: str, ends: Sequence[str], word: str, *, log: bool) -> Range:
    form = "log(a,b) with two numbers 0 < a < b" if log else "a:b with two numbers a < b"
    try:
        low, high = (float(exact_number(end)) for end in ends)
    except ValueError as problem:
        raise ConfigError(f"expected {form}, got {text} ({problem})", key=_place(word)) from None
    if log and low <= 0:
        raise ConfigError(f"expected {form}, got {text}: the logarithm needs numbers > 0", key=_place(word))
    if low >= high:
        cure = f"; turn them round: {ends[1].strip()} is the lower one" if low > high else ""
        raise ConfigError(f"expected {form}, got {text}{cure}", key=_place(word))
    return Range(key, low, high, log, all(_WHOLE.fullmatch(end.strip()) for end in ends))


def _expect_not_given_otherwise(key: str, word: str) -> None:
    if key in ("seed", "name"):
        raise ConfigError(_NOT_SEARCHED[key], key=_place(word))


def _expect_searchable(key: str, word: str) -> None:
    """Refuse keys by which a search would make the examination easier in the place of a better model."""
    if key in _NOT_SEARCHED:
        raise ConfigError(_NOT_SEARCHED[key], key=_place(word))
    if key == "threat" or any(key == each or key.startswith(f"{each}.") for each in _EXAMINATION):
        raise ConfigError(
            f"{key} is a part of how trials are measured, so their values could not be compared; give it one value",
            key=_place(word),
        )


def _place(word: str) -> str:
    return f"override {word!r}"
