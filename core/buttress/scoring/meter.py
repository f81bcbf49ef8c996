"""Show the progress of an attack, also within a batch, by counting the forwards that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.engine.attacking import ModelAtWork


def most_forwards(attack: LoadedPlugin | None, examples: int) -> int:
    """Largest number of forwards that an attack makes for a batch of ``examples``; 1 where that is not known.

    An attack declares the number by a method ``forwards(examples)``.
    """
    forwards = attack.traits.forwards if attack is not None and examples else None
    return max(1, forwards(examples)) if forwards else 1


class Meter:
    """Moves the progress bar of one attack.

    Args:
        reporter: reporter that shows the bar.
        at_work: model whose forwards are counted.
        activity: name of the work, beside the bar.
        costs: number of every batch, to the largest number of its forwards.
        ahead: numbers of the batches that are not done yet.
    """

    def __init__(
        self, reporter: Reporter, at_work: ModelAtWork, activity: str, costs: Mapping[int, int], ahead: Iterable[int]
    ) -> None:
        self._reporter, self._at_work, self._activity, self._costs = reporter, at_work, activity, costs
        total = sum(costs.values())
        reporter.begin(total, total - sum(costs[number] for number in ahead), activity)

    @contextmanager
    def batch(self, number: int) -> Iterator[None]:
        """Count the forwards of the block, which attacks batch ``number``; at its end the whole share is done."""
        left = self._costs[number]

        def count() -> None:
            nonlocal left
            if left > 1:  # the last one is the end of the batch
                left -= 1
                self._reporter.advance(self._activity)

        with self._at_work.telling(count):
            yield
        self._reporter.advance(self._activity, left)
