"""Learning-rate schedules: factors on the initial learning rate at time t. ``schedules`` has those of buttress."""

from collections.abc import Sequence
from math import ceil, inf
from typing import Literal, Protocol, get_args

from buttress.errors import ConfigError, describe, nearest

Unit = Literal["epoch", "batch"]
"""Unit of time at which a factor changes."""


class Schedule(Protocol):
    """A schedule with its settings in ``__init__``.

    ``per`` says when the trainer calls ``factor``: once an ``epoch`` (t = 0-based epoch), or at every ``batch`` with
    t = epoch + (i + 1) / batches, so that the last batch of an epoch already has the next epoch's value (RO lineage).
    """

    per: Unit

    def factor(self, t: float, epochs: float) -> float:
        """The factor at time ``t``, in epochs, of a run of ``epochs``."""
        ...

    def drops(self, epochs: float) -> Sequence[float]:
        """Times, in epochs, at which the factor jumps, for pictures and reports."""
        ...


def expect_factors(schedule: Schedule, epochs: float, who: str) -> None:
    """Try all factors of a schedule that is not built in, before training begins.

    Args:
        schedule: schedule to try.
        epochs: number of epochs of the run.
        who: name of the schedule, for messages.

    Raises:
        ConfigError: ``per`` is unknown, a factor is no finite number >= 0, or the drops are no times.
    """
    try:
        per = getattr(schedule, "per", None)
        if per not in get_args(Unit):
            raise ConfigError(f"expected an attribute per that is 'epoch' or 'batch', got {per!r}{_hint(per)}", key=who)
        times = [*range(ceil(epochs)), *([epochs] if per == "batch" else [])]
        factors = {t: schedule.factor(t, epochs) for t in times}
        drops = schedule.drops(epochs)
    except ConfigError:
        raise
    except Exception as problem:
        raise ConfigError(describe(problem, schedule), key=who) from problem
    for t, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor < inf:
            raise ConfigError(f"expected factor({t}, {epochs}) to be a finite number >= 0, got {factor!r}", key=who)
    if not isinstance(drops, list) or not all(isinstance(time, (int, float)) and 0 <= time < inf for time in drops):
        raise ConfigError(f"expected drops({epochs}) to be a list of times in epochs, got {drops!r}", key=who)


def expect_unit(per: Unit) -> Unit:
    """``per``, checked for those who make a schedule in Python: the trainer would take any other word for ``epoch``."""
    if per not in get_args(Unit):
        raise ConfigError(f"expected 'epoch' or 'batch', got {per!r}{_hint(per)}", key="per")
    return per


def expect_reached(moment: int | float, epochs: float, key: str) -> int | float:
    """``moment``, which has to lie before the end of a run of ``epochs``.

    Raises:
        ConfigError: it does not; ``key`` is the setting that holds it.
    """
    if moment >= epochs and (isinstance(moment, int) or moment > 1):
        raise ConfigError(
            f"a time of {moment} epochs never comes: the run has {epochs:g}; take an earlier one, a share of the run "
            "in (0, 1), or more epochs",
            key=key,
        )
    return moment


def _hint(word: object) -> str:
    return nearest(word, get_args(Unit)) if isinstance(word, str) else ""
