"""How long a run is, in epochs and in steps; known as soon as its data are loaded."""

from __future__ import annotations

from dataclasses import dataclass

from buttress.config.schema import Config


@dataclass(frozen=True)
class Length:
    """The length of a run.

    Args:
        steps: number of steps.
        steps_per_epoch: number of steps of a whole epoch.
        time: number of epochs as schedules take it: an int for a run of ``epochs``, a float for one of ``steps``, which
            may end inside an epoch.
    """

    steps: int
    steps_per_epoch: int
    time: int | float

    @property
    def epochs(self) -> int:
        """Number of epochs that begin; the last one of a run of ``steps`` may be a part of an epoch."""
        return -(-self.steps // self.steps_per_epoch)

    def steps_of(self, epoch: int) -> int:
        """Number of steps in an epoch, 0-based."""
        return min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)

    def reaches(self, epoch: int, step: int, global_step: int) -> bool:
        """Whether the run comes to a place: ``step`` steps of an epoch done, and ``global_step`` in all."""
        if epoch == self.epochs:
            return step == 0 and global_step == self.steps
        return (
            epoch < self.epochs and step <= self.steps_of(epoch) and global_step == epoch * self.steps_per_epoch + step
        )

    def __str__(self) -> str:
        return f"{self.epochs} epochs of {self.steps_per_epoch} steps, {self.steps} steps in all"


def length_of(config: Config, batches: int) -> Length:
    """The length of a run with that many batches in an epoch."""
    per_epoch = batches * config.data.replays
    if config.steps is not None:
        return Length(config.steps, per_epoch, config.steps / per_epoch)
    assert config.epochs is not None  # a config has one of the two
    return Length(config.epochs * per_epoch, per_epoch, config.epochs)
