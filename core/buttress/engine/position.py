"""Show the position of a run: epoch and step, and how many there are."""

from __future__ import annotations

import torch

from buttress.engine.state import RunState
from buttress.threat import ThreatModel


class Position:
    """The part of an engine that shows the state of its run. ``epoch`` and ``global_step`` may be written."""

    _state: RunState

    @property
    def threat(self) -> ThreatModel:
        return self._state.threat

    @property
    def device(self) -> torch.device:
        return self._state.device

    @property
    def epochs(self) -> int | None:
        """Number of epochs of the whole run, where that is known."""
        return self._state.epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """Number of steps of an epoch, where that is known."""
        return self._state.steps_per_epoch

    @property
    def epoch(self) -> int:
        """0-based."""
        return self._state.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._state.go_to_epoch(value)

    @property
    def epoch_step(self) -> int:
        """0-based step within the epoch."""
        return self._state.step

    @property
    def global_step(self) -> int:
        """0-based."""
        return self._state.global_step

    @global_step.setter
    def global_step(self, value: int) -> None:
        self._state.global_step = value
