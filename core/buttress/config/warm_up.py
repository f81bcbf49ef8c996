"""A warm-up of the learning rate in front of any schedule."""

from math import ceil

from buttress.config.schedule import Schedule, Unit
from buttress.errors import ConfigError
from buttress.settings import resolve_moment


class WarmUp:
    """A schedule whose first factors lie on a straight line.

    The line rises at every batch from ``start`` to the factor that the schedule has at the end of the warm-up. From
    there on the schedule goes on as if it had been alone, in its own unit of time.

    Args:
        schedule: schedule to warm up; its drops within the warm-up are part of the line.
        length: length of the warm-up, a ``Moment``.
        start: factor at the start of the run.
    """

    per: Unit = "batch"

    def __init__(self, schedule: Schedule, length: int | float, start: float = 0.0) -> None:
        self.schedule, self.length, self.start = schedule, length, start

    def factor(self, t: float, epochs: float) -> float:
        end = self._end(epochs)
        if t >= end:
            return self._scheduled(t, epochs)
        return self.start + (self._scheduled(end, epochs) - self.start) * t / end

    def drops(self, epochs: float) -> list[float]:
        return [time for time in self.schedule.drops(epochs) if time >= self._end(epochs)]

    def _end(self, epochs: float) -> float:
        end = resolve_moment(self.length, epochs)
        if end >= epochs:
            raise ConfigError(
                f"expected a warm-up shorter than the run, got {self.length} of {epochs:g} epochs; take a shorter one, "
                "a share of the run in (0, 1), or more epochs",
                key="warmup",
            )
        return end

    def _scheduled(self, t: float, epochs: float) -> float:
        """The factor of the schedule for the batch that ends at time ``t``."""
        epoch = float(max(ceil(t) - 1, 0))  # the one in which that batch is
        return self.schedule.factor(t if self.schedule.per == "batch" else epoch, epochs)
