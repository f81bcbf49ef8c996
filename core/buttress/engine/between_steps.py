"""Hooks that fire between training steps: where one raises, the model is put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from buttress.engine.hooks import Hooks
from buttress.engine.perturbation import Copies
from buttress.engine.state import RunState
from buttress.nn.as_found import AsFound


@dataclass(eq=False)
class BetweenSteps:
    """Makes the blocks in which an engine calls hooks between two steps.

    Args:
        model: put back, objects and values, where a block raises.
        hooks: watched anew from the beginning of a block.
        state: lets messages say that no step is being made.
        copies: memory that the copies of the model's values lie in.
    """

    model: nn.Module
    hooks: Hooks
    state: RunState
    copies: Copies

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.hooks.watch.begin(self.model)
        as_found = AsFound(self.model)
        values = as_found.values_kept_on_error(self.copies.before, self.copies.buffers)
        with self.state.outside_of_steps(), as_found.kept_on_error(), values:
            yield
