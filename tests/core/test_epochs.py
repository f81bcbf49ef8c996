"""Curves over epochs: values by hand, rounding, points at shares of the run, and what is refused."""

from fractions import Fraction
from math import cos, pi
from typing import Any

import pytest

from buttress.epochs import Curve, values_of
from buttress.errors import ConfigError


@pytest.mark.parametrize(
    ("shape", "points", "values"),
    [
        ("linear", [(0, 0.0), (4, 6.0)], [0.0, 1.5, 3.0, 4.5, 6.0, 6.0]),
        ("linear", [(1, 2.0), (3, 1.0), (4, 5.0)], [2.0, 2.0, 1.5, 1.0, 5.0, 5.0]),
        ("linear", [(0, 2), (4, 4)], [2, 3, 3, 4, 4, 4]),  # 2.5 and 3.5 are rounded up
        ("linear", [(0, 4), (4, 2)], [4, 4, 3, 3, 2, 2]),  # and so on the way down
        (
            "linear",
            [(0, Fraction(0)), (3, Fraction(8, 255))],
            [Fraction(0), Fraction(8, 765), Fraction(16, 765), Fraction(8, 255)],
        ),
        ("linear", [(0, 0), (2, 1.0)], [0.0, 0.5, 1.0]),  # not all are ints
        ("piecewise", [(0, 2), (2, 10), (3, 4)], [2, 2, 10, 4, 4]),
        ("piecewise", [(2, "late")], ["late", "late", "late", "late"]),
        ("piecewise", [(0, 2), (0.5, 10)], [2, 2, 2, 10, 10, 10]),  # of 6 epochs
        ("cosine", [(0, 0.0), (4, 1.0)], [0.0, (1 - cos(pi / 4)) / 2, 0.5, (1 + cos(pi / 4)) / 2, 1.0, 1.0]),
        ("cosine", [(0, 10), (2, 5), (4, 5)], [10, 8, 5, 5, 5]),
    ],
)
def test_values_by_hand(shape: Any, points: Any, values: list[Any]):
    curve = Curve(shape, points)
    reached = [curve.at(epoch, 6) for epoch in range(len(values))]
    assert reached == pytest.approx(values, abs=1e-15) if shape == "cosine" else reached == values
    assert [type(each) for each in reached] == [type(each) for each in values]


def test_values_on_a_line_never_leave_its_ends():
    curve = Curve("linear", [(0, 0.1), (999, 0.3)])
    values = [curve.at(epoch) for epoch in range(1000)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.1, 0.3)


def test_a_curve_is_written_as_a_config_writes_it():
    assert str(Curve("linear", [[0, Fraction(1, 255)], [0.5, 2]])) == "{linear: [[0, 1/255], [0.5, 2]]}"
    assert values_of(Curve("linear", [(0, 1), (3, 2)])) == [1, 2]
    assert values_of(7) == [7]


@pytest.mark.parametrize(
    ("shape", "points", "message"),
    [
        ("line", [(0, 1)], r"^expected a shape, got 'line'; did you mean 'linear'\?$"),
        ("linear", [], r"^expected points \[\[epoch, value\], ...\], at least one, got \[\]$"),
        ("linear", [(0, 1), (5, 2), (5, 3)], r"^expected increasing epochs, got \[0, 5, 5\]$"),
        ("linear", [(0.6, 1), (7, 2), (0.5, 3)], r"^expected increasing epochs, got \[0.6, 0.5\]$"),
        ("linear", [(0, 1), (2, float("inf"))], r"^point 2: expected a finite number, .* got inf; take piecewise$"),
        ("linear", [(0, True)], r"^point 1: expected a finite number, .* got True"),
        ("cosine", [(1.5, 1)], r"^point 1: expected a 0-based epoch .* got 1.5$"),
        ("piecewise", [(0, 1, 2)], r"^point 1: expected \[epoch, value\], got \(0, 1, 2\)$"),
    ],
)
def test_a_wrong_curve_is_refused(shape: Any, points: Any, message: str):
    with pytest.raises(ValueError, match=message):
        Curve(shape, points)


def test_points_need_an_epoch_of_their_own_in_the_run():
    curve = Curve("piecewise", [(0, 2), (0.5, 10)])
    with pytest.raises(ConfigError, match=r"expected increasing epochs, got \[0, 0\] \(of 1 epochs\)"):
        curve.at(0, 1)
    with pytest.raises(ConfigError, match=r"0.5 is a fraction of the epochs, but their number is unknown"):
        curve.at(0)
