"""Learning-rate schedules: factors on the initial learning rate at time t."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from math import cos, inf, pi
from typing import Annotated, Literal, Protocol, get_args

import numpy as np
from annotated_types import Ge, Gt, Lt

from buttress.errors import ConfigError, describe, nearest
from buttress.settings import Epoch, resolve_epoch

Unit = Literal["epoch", "batch"]
"""Unit of time at which a factor changes."""


class Schedule(Protocol):
    """A schedule with its settings in ``__init__``.

    ``per`` says when the trainer calls ``factor``: once an ``epoch`` (t = 0-based epoch), or at every ``batch`` with
    t = epoch + (i + 1) / batches, so that the last batch of an epoch already has the next epoch's value (RO lineage).
    """

    per: Unit

    def factor(self, t: float, epochs: int) -> float:
        """The factor at time ``t``, in epochs, of a run of ``epochs``."""
        ...

    def drops(self, epochs: int) -> list[int]:
        """Epochs at which the factor jumps, for pictures and reports."""
        ...


class Constant:
    """The initial learning rate throughout."""

    per: Unit = "epoch"

    def factor(self, t: float, epochs: int) -> float:
        return 1.0

    def drops(self, epochs: int) -> list[int]:
        return []


class Piecewise:
    """The learning rate times ``factor`` at each milestone.

    Args:
        milestones: increasing epochs: 0-based, or fractions of the epochs in (0, 1), which are never the first epoch:
            in a run of few epochs drops fall together at the second one.
        factor: factor of one drop.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(
        self,
        *,
        milestones: list[Epoch],
        factor: Annotated[float, Gt(0)] = 0.1,
        per: Unit = "epoch",
    ) -> None:
        self.milestones, self.per = milestones, _unit(per)
        self._factor = factor

    def factor(self, t: float, epochs: int) -> float:
        return float(self._factor ** sum(t >= milestone for milestone in self.drops(epochs)))

    def drops(self, epochs: int) -> list[int]:
        resolved = [resolve_epoch(milestone, epochs) for milestone in self.milestones]
        # Shares that are floored to the first epoch, whose learning rate is the initial one.
        pairs = zip(self.milestones, resolved, strict=True)
        early = len(list(takewhile(lambda pair: isinstance(pair[0], float) and pair[1] == 0, pairs)))
        return [1] * early + _expect_increasing(resolved[early:], epochs)


class Linear:
    """Straight lines between knots, from the initial learning rate at the start to ``final`` times it at the end.

    Args:
        knots: increasing epochs: 0-based, or fractions of the epochs in (0, 1).
        factors: factors on the initial learning rate, one for each knot; the first holds before the first knot, too.
        final: factor at the end of the run.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
        count_from: number of the first epoch, 1 in the SEAT lineage, which decays an epoch earlier.
    """

    def __init__(
        self,
        *,
        knots: list[Epoch],
        factors: list[Annotated[float, Ge(0)]],
        final: Annotated[float, Ge(0)],
        per: Unit = "epoch",
        count_from: Literal[0, 1] = 0,
    ) -> None:
        self.knots, self.factors, self.final = knots, factors, final
        self.per, self.count_from = _unit(per), count_from

    def factor(self, t: float, epochs: int) -> float:
        return interpolate(t + self.count_from, [*self.drops(epochs), epochs], [*self.factors, self.final])

    def drops(self, epochs: int) -> list[int]:
        if len(self.knots) != len(self.factors) or not self.knots:
            raise ConfigError(f"expected one factor for each knot, got {self.knots} and {self.factors}")
        return _increasing(self.knots, epochs)


class Cosine:
    """Half a cosine, from the initial learning rate to ``final`` times it.

    Args:
        final: factor at the end of the run.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(self, *, final: Annotated[float, Ge(0)] = 0.0, per: Unit = "batch") -> None:
        self.final, self.per = final, _unit(per)

    def factor(self, t: float, epochs: int) -> float:
        return self.final + (1 - self.final) * (1 + cos(pi * min(t / epochs, 1.0))) / 2

    def drops(self, epochs: int) -> list[int]:
        return []


class Cyclic:
    """Up from 0 to the learning rate of the optimizer and down to 0 again, in straight lines.

    Args:
        peak: share of the epochs at which the learning rate is highest.
        per: unit of time at which the factor changes, ``epoch`` or ``batch``.
    """

    def __init__(self, *, peak: Annotated[float, Gt(0), Lt(1)] = 0.4, per: Unit = "batch") -> None:
        self.peak, self.per = peak, _unit(per)

    def factor(self, t: float, epochs: int) -> float:
        return interpolate(t, [0, self.peak * epochs, epochs], [0.0, 1.0, 0.0])

    def drops(self, epochs: int) -> list[int]:
        return []


def expect_factors(schedule: Schedule, epochs: int, who: str) -> None:
    """Try all factors of a schedule that is not built in, before training begins.

    Args:
        schedule: schedule to try.
        epochs: number of epochs of the run.
        who: name of the schedule, for messages.

    Raises:
        ConfigError: ``per`` is unknown, a factor is no finite number >= 0, or the drops are no epochs.
    """
    try:
        per = getattr(schedule, "per", None)
        if per not in get_args(Unit):
            raise ConfigError(f"expected an attribute per that is 'epoch' or 'batch', got {per!r}{_hint(per)}", key=who)
        factors = {t: schedule.factor(t, epochs) for t in range(epochs + (per == "batch"))}
        drops = schedule.drops(epochs)
    except ConfigError:
        raise
    except Exception as problem:
        raise ConfigError(describe(problem, schedule), key=who) from problem
    for t, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor < inf:
            raise ConfigError(f"expected factor({t}, {epochs}) to be a finite number >= 0, got {factor!r}", key=who)
    if not isinstance(drops, list) or not all(isinstance(epoch, int) for epoch in drops):
        raise ConfigError(f"expected drops({epochs}) to be a list of epochs, got {drops!r}", key=who)


def _unit(per: Unit) -> Unit:
    """``per``, checked for those who make a schedule in Python: the trainer would take any other word for ``epoch``."""
    if per not in get_args(Unit):
        raise ConfigError(f"expected 'epoch' or 'batch', got {per!r}{_hint(per)}", key="per")
    return per


def _hint(word: object) -> str:
    return nearest(word, get_args(Unit)) if isinstance(word, str) else ""


def interpolate(t: float, times: Sequence[float], values: Sequence[float]) -> float:
    """The value at t of the polygon through (times, values), constant outside."""
    return float(np.interp(t, times, values))


def _increasing(settings: Sequence[int | float], epochs: int) -> list[int]:
    return _expect_increasing([resolve_epoch(setting, epochs) for setting in settings], epochs)


def _expect_increasing(resolved: list[int], epochs: int) -> list[int]:
    if any(later <= earlier for earlier, later in pairwise(resolved)):
        raise ConfigError(
            f"expected increasing epochs, got {resolved} (of {epochs} epochs); take more epochs, or others of them"
        )
    return resolved
