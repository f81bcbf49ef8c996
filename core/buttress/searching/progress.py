"""Lines of progress of a search: each trial that has ended, the best so far, the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from buttress.console.tables import duration, percent
from buttress.searching.study import SearchTrial

# Characters of a number that is shown as it is.
_SHORT = 6


class SearchProgress:
    """Says how far a search is.

    Args:
        known: trials that have begun before.
        before: number of trials that have ended before.
        total: number of trials that are to have ended.
        say: function that receives lines of progress.
    """

    def __init__(self, known: Sequence[SearchTrial], before: int, total: int, say: Callable[[str], None]) -> None:
        done = [trial for trial in known if trial.state == "done"]
        self._best = max(done, key=lambda trial: trial.value, default=None)
        self._before, self._ended, self._total, self.say = before, before, total, say
        self._started = monotonic()

    def begin(self, terms: str) -> None:
        """Say what is ahead; ``terms`` are those of the launcher."""
        self.say(f"{self._total} trials, {self._before} ended before; runs: {terms}")

    def done(self, trial: SearchTrial) -> None:
        """A trial has a value."""
        if self._best is None or trial.value > self._best.value:
            self._best, best = trial, "the best so far"
        else:
            best = f"best: trial {self._best.number}, {percent(self._best.value)} %"
        self.ended(trial, f"{percent(trial.value)} % on validation, {best}")

    def ended(self, trial: SearchTrial, outcome: str) -> None:
        """A trial has ended."""
        self._ended += 1
        left = max(0, self._total - self._ended)
        forecast = (monotonic() - self._started) / (self._ended - self._before) * left
        settings = " ".join(f"{key}={short(value)}" for key, value in trial.settings.items())
        more = f"; about {duration(forecast)} left" if left else ""
        self.say(f"[{self._ended}/{self._total}] trial {trial.number} ({settings}): {outcome}{more}")


def short(value: str) -> str:
    """A value of a setting for people: four digits of a long number, any other text as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    return value if len(value) <= _SHORT else f"{number:.4g}"
