"""How far an attack is, also within a batch: counted in the forwards that it makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter


def most_forwards(attack: LoadedPlugin | None, examples: int) -> int:
    """Forwards that an attack makes for a batch of so many examples, at most; 1 where it does not say, or for none.

    An attack says so by a method ``forwards(examples)``.
    """
    said = attack.traits.forwards if attack is not None and examples else None
    return max(1, said(examples)) if said else 1


class Meter:
    """Moves the progress bar of one attack.

    Args:
        reporter: has the bar.
        model: whose forwards are counted.
        what: is being done.
        costs: most forwards of every batch.
        first: the batch to begin with; those before it are behind us.
    """

    def __init__(self, reporter: Reporter, model: nn.Module, what: str, costs: Sequence[int], first: int) -> None:
        self._reporter, self._model, self._what, self._costs = reporter, model, what, costs
        reporter.begin(sum(costs), sum(costs[:first]), what)

    @contextmanager
    def batch(self, number: int) -> Iterator[None]:
        """While batch ``number`` is attacked. An attack that ends early jumps to the end of its share."""
        left = self._costs[number]

        def count(*_: object) -> None:
            nonlocal left
            if left > 1:  # the last one is the end of the batch
                left -= 1
                self._reporter.advance(self._what)

        counting = self._model.register_forward_pre_hook(count)
        try:
            yield
        finally:
            counting.remove()
        self._reporter.advance(self._what, left)
