"""Robust accuracies of runs on the validation split. Nothing here reads a number of the test split."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from buttress.comparing.jobs import Job
from buttress.errors import CheckpointError
from buttress.storage.run_folder import RunFolder
from buttress.training.records import read_metrics
from buttress.training.selection import best_epoch

SPLIT = "validation"
"""Name of the split that decides."""


def curve_of(folder: RunFolder, track: str) -> dict[int, float]:
    """Epoch (from 1) to robust accuracy in [0, 1] of ``track`` on the validation split.

    Raises:
        CheckpointError: the records are damaged, or not there yet.
    """
    return {
        each.epoch: each.robust
        for each in read_metrics(folder).evaluations
        if (each.track, each.split) == (track, SPLIT)
    }


def accuracy_of(folder: RunFolder, track: str) -> float:
    """The robust accuracy in [0, 1] of a finished run at its best epoch, which the validation split chooses.

    Raises:
        CheckpointError: the records are damaged.
    """
    records = [each for each in read_metrics(folder).evaluations if each.split == SPLIT]
    best = best_epoch(records, track, SPLIT)
    return next(each.robust for each in records if (each.track, each.epoch) == (track, best))


@dataclass
class CurveWatch:
    """Reads the curve of a run at work whenever its records have grown."""

    job: Job
    track: str
    _size: int = field(default=-1, init=False)

    def curve(self) -> dict[int, float]:
        """The curve, empty where there is nothing new."""
        folder, curve = self.job.folder, dict[int, float]()
        with suppress(OSError, CheckpointError):  # the run is about to be made, or its own process says what is wrong
            size = folder.metrics.stat().st_size
            if size != self._size:
                curve = curve_of(folder, self.track)
                self._size = size
        return curve
