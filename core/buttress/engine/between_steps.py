"""Restore the model where a hook between two training steps raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from buttress.engine.hooks import Hooks
from buttress.engine.perturbation import Copies
from buttress.engine.state import RunState
from buttress.engine.writers import BETWEEN_STEPS, Writers
from buttress.nn.as_found import AsFound


@dataclass(eq=False)
class BetweenSteps:
    """Makes the ``with`` blocks in which an engine calls hooks between two steps.

    Args:
        model: model whose objects and values are restored where a block raises.
        hooks: hooks of the run; their watch begins anew with a block.
        state: state of the run; messages about a block say that it is no step.
        copies: memory for the copies of the model's values.
    """

    model: nn.Module
    hooks: Hooks
    state: RunState
    copies: Copies

    def __post_init__(self) -> None:
        self._writers = Writers(self.hooks, BETWEEN_STEPS)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.hooks.watch.settle()
        self.hooks.watch.begin(self.model)
        as_found = AsFound(self.model)
        values = as_found.values_kept_on_error(self.copies.weights(self._writers.exist), self.copies.buffers)
        with self.state.outside_of_steps(), as_found.kept_on_error(), values:
            yield
