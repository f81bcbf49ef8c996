"""The cost of what a run does between its epochs: the end of an epoch, and the tracks of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buttress.benching.measured_run import MeasuredRun
from buttress.benching.phases import PhaseMeter, phases_metered
from buttress.training.forecast import reestimation_seconds


@dataclass(frozen=True)
class BetweenEpochs:
    """The cost of the end of one epoch, and of the evaluation after it.

    Args:
        epoch_end: seconds of the end of the epoch, by phase.
        tracks: number of weights that are evaluated: the live ones, and the tracks that have begun.
        track_seconds: seconds until these weights are there, batch norm's statistics included.
        examples: number of examples that are evaluated for each of them.
        every: number of epochs from one evaluation to the next.
    """

    epoch_end: dict[str, float]
    tracks: int
    track_seconds: float
    examples: int
    every: int

    def evaluation_seconds(self, example_seconds: float) -> float:
        """Seconds of evaluation for each epoch of training, from those of one example."""
        return (self.track_seconds + self.tracks * self.examples * example_seconds) / self.every


def between_epochs(run: MeasuredRun, clock: Callable[[], float]) -> BetweenEpochs:
    """Measure the end of the run's epoch once; the run is thrown away afterwards."""
    assembly, engine = run.assembly, run.engine
    meter = PhaseMeter(clock)
    with phases_metered(engine, meter):
        engine.end_epoch({"loss": float(run.losses.mean())})
    begin = clock()
    tracks = [track for track in engine.tracks() if track.weights is not None]
    seconds = clock() - begin
    for track in tracks:
        if track.buffers == "reestimate":
            seconds += assembly.batches * reestimation_seconds(assembly, track)
    examples = sum(map(len, assembly.evaluated_splits.values()))
    return BetweenEpochs(meter.amounts, 1 + len(tracks), seconds, examples, assembly.file.config.evaluation.every)
