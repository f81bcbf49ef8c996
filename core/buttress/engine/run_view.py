"""The facts of a run that an engine and its contexts both show: its place, its length, its threat model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from buttress.engine.state import RunState
    from buttress.threat import ThreatModel


class RunView:
    """A view of a run, which changes nothing in it."""

    _state: RunState

    @property
    def threat(self) -> ThreatModel:
        """The threat model of training, with the radius of the present epoch."""
        return self._state.threat

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._state.seed

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._state.device

    @property
    def epoch(self) -> int:
        """0-based."""
        return self._state.epoch

    @property
    def global_step(self) -> int:
        """0-based, within the run."""
        return self._state.global_step

    @property
    def epochs(self) -> int | None:
        """Number of epochs of the whole run, or None where it is not known."""
        return self._state.epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """Number of steps of an epoch, or None where it is not known."""
        return self._state.steps_per_epoch
