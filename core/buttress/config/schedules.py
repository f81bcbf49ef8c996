"""The learning-rate schedules that come with buttress."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from math import cos, inf, pi, prod
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt
from pydantic import BeforeValidator

from buttress.config.schedule import Unit, expect_reached, expect_unit
from buttress.errors import ConfigError
from buttress.settings import Moment, resolve_epoch, resolve_moment

# Part of an epoch, far below a step: times are rounded.
_TOLERANCE = 1e-9


def _factors(value: object) -> object:
    numbers = value if isinstance(value, list) else [value]
    if all(isinstance(each, (int, float)) and not isinstance(each, bool) and 0 < each < inf for each in numbers):
        return value
    raise ValueError(f"expected a factor > 0, or a list with one for each milestone, got {value!r}")


Factors = Annotated[float | list[float], BeforeValidator(_factors)]
"""A factor > 0, or a list of them."""


class Constant:
    """The initial learning rate throughout."""

    per: Unit = "epoch"

    def factor(self, t: float, epochs: float) -> float:
        return 1.0

    def drops(self, epochs: float) -> list[float]:
        return []


class Piecewise:
    """The learning rate times a factor at each milestone.

    Args:
        milestones: increasing times: 0-based epochs, or with ``per: batch`` times inside one (7.5: in the middle of
            epoch 7), or shares in (0, 1). A share of ``epochs`` is floored to an epoch, and never to the first one: in
            a run of few epochs drops fall together at the second one. A share of ``steps`` is exact.
        factor: factor of every drop on the learning rate before it, or a list of factors, one for each milestone.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(
        self,
        *,
        milestones: list[Moment],
        factor: Factors = 0.1,
        per: Unit = "epoch",
    ) -> None:
        self.milestones, self.per = milestones, expect_unit(per)
        self._factors = factor if isinstance(factor, list) else [factor] * len(milestones)
        if len(self._factors) != len(milestones):
            raise ConfigError(
                f"expected one factor, or one for each of the {len(milestones)} milestones, got {len(self._factors)}",
                key="factor",
            )

    def factor(self, t: float, epochs: float) -> float:
        drops = zip(self.drops(epochs), self._factors, strict=True)
        return prod((factor for time, factor in drops if t >= time - _TOLERANCE), start=1.0)

    def drops(self, epochs: float) -> list[float]:
        times = [_time_of(milestone, epochs, "milestones") for milestone in self.milestones]
        # Shares that are floored to the first epoch, whose learning rate is the initial one.
        pairs = zip(self.milestones, times, strict=True)
        early = len(list(takewhile(lambda pair: isinstance(pair[0], float) and pair[1] == 0, pairs)))
        _expect_increasing([0] * bool(early) + times[early:], epochs, "milestones")
        times = [1] * early + times[early:]
        inside = [time for time in times if time % 1]
        if inside and self.per == "epoch":
            raise ConfigError(
                f"a drop at {inside[0]:g} lies inside an epoch, and the learning rate changes between epochs; set per: "
                "batch, or take a whole epoch",
                key="milestones",
            )
        return times


class MultiStep(Piecewise):
    """The learning rate times ``gamma`` at each milestone: ``piecewise`` under the names of torch's MultiStepLR.

    Args:
        milestones: increasing times, as those of ``piecewise``.
        gamma: factor of every drop on the learning rate before it.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(self, *, milestones: list[Moment], gamma: Annotated[float, Gt(0)] = 0.1, per: Unit = "epoch") -> None:
        super().__init__(milestones=milestones, factor=gamma, per=per)


class Linear:
    """Straight lines between knots, from the initial learning rate at the start to ``final`` times it at the end.

    Args:
        knots: increasing times: 0-based epochs, times inside one (7.5: in the middle of epoch 7), or shares in (0, 1),
            of ``epochs`` floored to an epoch, of ``steps`` exact.
        factors: factors on the initial learning rate, one for each knot; the first holds before the first knot, too.
        final: factor at the end of the run.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
        count_from: number of the first epoch, 1 in the SEAT lineage, which decays an epoch earlier.
    """

    def __init__(
        self,
        *,
        knots: list[Moment],
        factors: list[Annotated[float, Ge(0)]],
        final: Annotated[float, Ge(0)],
        per: Unit = "epoch",
        count_from: Literal[0, 1] = 0,
    ) -> None:
        self.knots, self.factors, self.final = knots, factors, final
        self.per, self.count_from = expect_unit(per), count_from
        if len(knots) != len(factors) or not knots:
            raise ConfigError(f"expected one factor for each knot, got {knots} and {factors}", key="factors")

    def factor(self, t: float, epochs: float) -> float:
        return interpolate(t + self.count_from, [*self.drops(epochs), epochs], [*self.factors, self.final])

    def drops(self, epochs: float) -> list[float]:
        return _expect_increasing([_time_of(knot, epochs, "knots") for knot in self.knots], epochs, "knots")


class Cosine:
    """Half a cosine, from the initial learning rate to ``final`` times it.

    Args:
        final: factor at the end of the run.
        start: time at which the half cosine begins, before which the factor is 1: 0-based epoch, time inside one (2.5),
            or share of the run in (0, 1), which is not floored.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(self, *, final: Annotated[float, Ge(0)] = 0.0, start: Moment = 0, per: Unit = "batch") -> None:
        self.final, self.start, self.per = final, start, expect_unit(per)

    def factor(self, t: float, epochs: float) -> float:
        start = resolve_moment(expect_reached(self.start, epochs, "start"), epochs)
        done = min(max((t - start) / (epochs - start), 0.0), 1.0)
        return self.final + (1 - self.final) * (1 + cos(pi * done)) / 2

    def drops(self, epochs: float) -> list[float]:
        return []


class Cyclic:
    """Up from 0 to the learning rate of the optimizer and down to 0 again, in straight lines.

    Args:
        peak: share of the epochs at which the learning rate is highest.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(self, *, peak: Annotated[float, Gt(0), Lt(1)] = 0.4, per: Unit = "batch") -> None:
        self.peak, self.per = peak, expect_unit(per)

    def factor(self, t: float, epochs: float) -> float:
        return interpolate(t, [0, self.peak * epochs, epochs], [0.0, 1.0, 0.0])

    def drops(self, epochs: float) -> list[float]:
        return []


class OneCycle:
    """Up from ``start`` to the learning rate of the optimizer and down to ``final`` times it: torch's OneCycleLR.

    Torch's first step is at the start of the curve and the last one at its end; of N steps here only the last one is at
    an end, so that they are steps 1 to N of torch's 0 to N. Torch's peak is not at ``pct_start * N`` but a step before
    ``pct_start * (N + 1)``. The momentum stays as it is.

    Args:
        peak: share of the run at which the learning rate is highest, torch's ``pct_start``.
        start: factor at the start of the run, 1 / ``div_factor`` of torch's.
        final: factor at the end of the run, 1 / (``div_factor`` * ``final_div_factor``) of torch's.
        anneal: shape of both parts, half a cosine (``cos``) or a straight line (``linear``).
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(
        self,
        *,
        peak: Annotated[float, Gt(0), Lt(1)] = 0.3,
        start: Annotated[float, Ge(0)] = 0.04,
        final: Annotated[float, Ge(0)] = 4e-6,
        anneal: Literal["cos", "linear"] = "cos",
        per: Unit = "batch",
    ) -> None:
        self.peak, self.start, self.final = peak, start, final
        self.anneal, self.per = anneal, expect_unit(per)

    def factor(self, t: float, epochs: float) -> float:
        done = min(t / epochs, 1.0)
        if done < self.peak:
            return self._between(self.start, 1.0, done / self.peak)
        return self._between(1.0, self.final, (done - self.peak) / (1 - self.peak))

    def _between(self, begin: float, end: float, done: float) -> float:
        share = done if self.anneal == "linear" else (1 - cos(pi * done)) / 2
        return begin + (end - begin) * share

    def drops(self, epochs: float) -> list[float]:
        return []


def interpolate(t: float, times: Sequence[float], values: Sequence[float]) -> float:
    """The value at t of the polygon through (times, values), constant outside."""
    return float(np.interp(t, times, values))


def _time_of(moment: int | float, epochs: float, key: str) -> float:
    """The time of a milestone or a knot; a share of a whole number of epochs is floored."""
    expect_reached(moment, epochs, key)
    is_share = isinstance(moment, float) and moment < 1
    return resolve_epoch(moment, epochs) if is_share and isinstance(epochs, int) else resolve_moment(moment, epochs)


def _expect_increasing(times: list[float], epochs: float, key: str) -> list[float]:
    if any(later <= earlier for earlier, later in pairwise(times)):
        shown = ", ".join(f"{time:g}" for time in times)
        raise ConfigError(
            f"expected increasing epochs, got [{shown}] (of {epochs:g} epochs); take more epochs, or others of them",
            key=key,
        )
    return times
