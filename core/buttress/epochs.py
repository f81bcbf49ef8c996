"""Epochs as a config writes them, and values that change over the epochs of a run. Loads no torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor, inf, isfinite, pi, sin
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args

from pydantic import BeforeValidator

from buttress.errors import ConfigError, nearest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def expect_epoch(value: object) -> int | float:
    """``value``, an integer >= 0 or a float in (0, 1).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected an epoch (integer) or a fraction of the epochs in (0, 1), got {value!r}")
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError(f"expected a 0-based epoch (integer >= 0) or a fraction of the epochs in (0, 1), got {value!r}")


Epoch = Annotated[int | float, BeforeValidator(expect_epoch)]
"""An integer is a 0-based epoch, a float in (0, 1) a fraction of all epochs, floored."""


def resolve_epoch(value: int | float, epochs: float | None) -> int:
    """The 0-based epoch of an ``Epoch`` setting, in exact decimal arithmetic: 0.29 of 100 is 29.

    Raises:
        ConfigError: ``value`` is a fraction, and ``epochs`` is None.
    """
    if isinstance(value, int):
        return value
    if epochs is None:
        raise ConfigError(
            f"{value} is a fraction of the epochs, but their number is unknown: pass Engine(epochs=...), "
            "or give the epoch as an integer"
        )
    return floor(Fraction(str(value)) * Fraction(epochs))


def _moment(value: object) -> int | float:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and 0 < value < inf and value != 1:
        return value
    raise ValueError(
        "expected a time in epochs (an integer >= 0, or a number > 1 such as 7.5, in the middle of epoch 7) or a share "
        f"of the run in (0, 1), got {value!r}"
    )


Moment = Annotated[int | float, BeforeValidator(_moment)]
"""A time for schedules: an integer is a 0-based epoch, a float > 1 an epoch and a part of it (7.5: in the middle of
epoch 7), a float in (0, 1) a share of the run."""


def resolve_moment(value: int | float, epochs: float) -> float:
    """The time of a ``Moment`` setting in a run of ``epochs``, in epochs; the share of a run is not floored.

    It is rounded to 1e-10: 0.7 of 130 / 7 epochs is 13, and no time behind it.
    """
    is_share = isinstance(value, float) and value < 1
    return round(float(Fraction(str(value)) * Fraction(epochs)), 10) if is_share else value


CurveShape = Literal["linear", "piecewise", "cosine"]
"""Way from one point of a curve to the next."""


@dataclass(frozen=True)
class Curve(Generic[T_co]):
    """A schedule over the epochs: one value for each epoch, fixed until the epoch ends.

    Before the first point the value is that of the first, after the last one that of the last. Where every point has an
    int, the values between them are ints too, rounded half up; write ``6.0`` for a number that may be anything between.

    Args:
        shape: ``linear`` straight lines from point to point; ``cosine`` half cosines, which leave and reach the points
            flat; ``piecewise`` each value from its epoch on.
        points: epoch and value of each point; increasing epochs, each an integer >= 0 or a share of the run in (0, 1).

    Raises:
        ValueError: another shape; no point; an epoch that is none, or that does not increase; at the end of a line a
            value that is no finite number.
    """

    shape: CurveShape
    points: Sequence[tuple[int | float, T_co]]

    def __post_init__(self) -> None:
        if self.shape not in get_args(CurveShape):
            raise ValueError(f"expected a shape, got {self.shape!r}{nearest(str(self.shape), get_args(CurveShape))}")
        object.__setattr__(self, "points", tuple(_points(self.shape, self.points)))
        for kind in (int, float):
            _expect_increasing([epoch for epoch, _ in self.points if isinstance(epoch, kind)])

    def __str__(self) -> str:
        """``"{linear: [[0, 0.0], [10, 6.0]]}"``, as in a config."""
        return f"{{{self.shape}: [{', '.join(f'[{epoch}, {value}]' for epoch, value in self.points)}]}}"

    @property
    def values(self) -> list[T_co]:
        """The value of each point; those of all epochs lie between the least and the largest."""
        return [value for _, value in self.points]

    def at(self, epoch: int, epochs: int | None = None) -> T_co:
        """The value in a 0-based epoch of a run of ``epochs``, or of one whose length is not known.

        Raises:
            ConfigError: see ``resolved``.
        """
        times, values = self.resolved(epochs), self.values
        point = bisect_right(times, epoch) - 1
        if point < 0 or point == len(times) - 1 or self.shape == "piecewise":
            return values[max(point, 0)]
        share = Fraction(epoch - times[point], times[point + 1] - times[point])
        if self.shape == "cosine":
            share = Fraction((1 - sin(pi * (Fraction(1, 2) - share))) / 2)  # a cosine that is exact in the middle
        return self._between(values[point], values[point + 1], share)

    def _between(self, first: Any, second: Any, share: Fraction) -> T_co:
        """The number at ``share`` of the way from ``first`` to ``second``; rounded once, so that it lies between."""
        number: Any = Fraction(first) + (Fraction(second) - Fraction(first)) * share
        if all(isinstance(value, int) for value in self.values):
            number = floor(number + Fraction(1, 2))
        elif Fraction not in (type(first), type(second)):
            number = float(number)
        result: T_co = number
        return result

    def resolved(self, epochs: int | None) -> list[int]:
        """The 0-based epoch of each point in a run of ``epochs``.

        Raises:
            ConfigError: a point at a share of a run whose length is not known, or two points in one epoch.
        """
        times = [resolve_epoch(epoch, epochs) for epoch, _ in self.points]
        try:
            return _expect_increasing(times)
        except ValueError as problem:
            raise ConfigError(f"{problem} (of {epochs} epochs); take more epochs, or other ones") from None


PerEpoch = Union[T, Curve[T]]  # noqa: UP007  (a type alias that takes an argument)
"""``PerEpoch[float]``: a number, or a schedule over the epochs, ``{linear: [[0, 0.0], [10, 6.0]]}``.

The points are ``[epoch, value]``, increasing epochs as for ``Epoch``; each value satisfies what the number has to.
``linear`` draws straight lines between them, ``cosine`` half cosines, and ``piecewise`` takes each value from its epoch
on; outside of the points the value is constant. On a line between ints, values are rounded half up. A hook reads the
value of the present epoch by ``ctx.value(self.beta)``.
"""


def values_of(setting: PerEpoch[T]) -> list[T]:
    """The value of a setting, or those at the points of its schedule: between their extremes lie all others."""
    return setting.values if isinstance(setting, Curve) else [setting]


def _points(shape: CurveShape, points: object) -> Iterable[tuple[int | float, Any]]:
    """The points of a curve, each checked."""
    if isinstance(points, str) or not isinstance(points, Sequence) or not points:
        raise ValueError(f"expected points [[epoch, value], ...], at least one, got {points!r}")
    for number, point in enumerate(points, 1):
        if isinstance(point, str) or not isinstance(point, Sequence) or len(point) != 2:
            raise ValueError(f"point {number}: expected [epoch, value], got {point!r}")
        epoch, value = point
        try:
            expect_epoch(epoch)
        except ValueError as problem:
            raise ValueError(f"point {number}: {problem}") from None
        if shape != "piecewise" and (
            isinstance(value, bool) or not isinstance(value, (int, float, Fraction)) or not isfinite(value)
        ):
            raise ValueError(
                f"point {number}: expected a finite number, to which a line can be drawn, got {value!r}; take piecewise"
            )
        yield epoch, value


def _expect_increasing(epochs: list[Any]) -> list[Any]:
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        raise ValueError(f"expected increasing epochs, got {epochs}")
    return epochs
