"""Forecast the cost of a run before its first step, from passes counted on the model and a short calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from statistics import fmean, median
from time import perf_counter

import numpy as np
import torch

from buttress.console.tables import duration
from buttress.data import Split
from buttress.nn.passes import Passes
from buttress.training.assembly import Assembly
from buttress.training.stages import stages_of
from buttress.types import Batch, Track

# Long enough for a stable mean on an idle machine, short beside any run worth a forecast.
CALIBRATION_SECONDS = 1.0
# Largest number of stages of a run, see ``stages_of``, whose steps are measured.
MOST_STAGES = 8
# Examples attacked to time an evaluation, after as many to warm up.
CALIBRATION_EXAMPLES = 256


@dataclass(frozen=True)
class Forecast:
    """The cost of a run.

    Args:
        passes: number of passes in one training step, the fewest where they change over the epochs.
        most_passes: number of passes in one training step, the most where they change over the epochs.
        step_seconds: seconds of one training step, the mean over the epochs.
        steps: number of training steps.
        example_seconds: seconds of evaluating one example.
        examples: number of examples in all evaluations, as if every track had begun (in fact tracks that have not
            begun are free).
        batch_seconds: seconds of measuring batch norm on one batch.
        batches: number of batches on which batch norm is measured, as if every track had begun.
    """

    passes: Passes
    most_passes: Passes
    step_seconds: float
    steps: int
    example_seconds: float
    examples: int
    batch_seconds: float
    batches: int

    @property
    def train_seconds(self) -> float:
        """Seconds of all training steps."""
        return self.step_seconds * self.steps

    @property
    def evaluation_seconds(self) -> float:
        """Seconds of all evaluations, without the reading of a history of snapshots."""
        return self.example_seconds * self.examples + self.batch_seconds * self.batches

    def on(self, processes: int) -> Forecast:
        """The cost where so many processes share every batch and every evaluation, without that of their sums."""
        return replace(
            self,
            step_seconds=self.step_seconds / processes,
            example_seconds=self.example_seconds / processes,
            batch_seconds=self.batch_seconds / processes,
        )

    def __str__(self) -> str:
        forwards, to_input, to_weights = (
            str(fewest) if fewest == most else f"{fewest} to {most}"
            for fewest, most in zip(astuple(self.passes), astuple(self.most_passes), strict=True)
        )
        step = f"{1000 * self.step_seconds:.0f} ms" if self.step_seconds < 1 else duration(self.step_seconds)
        return (
            f"each step: {forwards} forwards, {to_input} backwards to the input, {to_weights} to "
            f"the weights, {step}; about {duration(self.train_seconds)} of training and "
            f"up to {duration(self.evaluation_seconds)} of evaluation"
        )


def forecast(scratch: Assembly) -> Forecast:
    """Run a few steps of ``scratch``, an assembly that is thrown away afterwards, and extrapolate.

    Every step starts at the initial weights: nothing can diverge before the run has begun.
    """
    config, engine = scratch.file.config, scratch.engine
    fewest, most, step_seconds = _cost_of_steps(scratch)
    examples = sum(map(len, scratch.evaluated_splits.values()))
    evaluations = -(-scratch.length.epochs // config.evaluation.every)  # rounded up: the last epoch always has one
    tracks = engine.tracks()
    measured = [track for track in tracks if track.buffers == "reestimate"]
    return Forecast(
        passes=fewest,
        most_passes=most,
        step_seconds=step_seconds,
        steps=scratch.length.steps,
        example_seconds=_evaluation_seconds(scratch),
        examples=examples * (1 + len(tracks)) * evaluations,
        batch_seconds=fmean(reestimation_seconds(scratch, track) for track in measured) if measured else 0,
        batches=scratch.batches * len(measured) * evaluations,
    )


def _cost_of_steps(scratch: Assembly) -> tuple[Passes, Passes, float]:
    """Fewest and most passes of one training step, and its mean seconds over the epochs of the run.

    Of many stages some are measured, and the seconds of those between are interpolated.
    """
    stages = stages_of(scratch.engine.plugins, scratch.length.epochs)
    measured = sorted({round(number) for number in np.linspace(0, len(stages) - 1, min(len(stages), MOST_STAGES))})
    share = CALIBRATION_SECONDS / len(measured)
    costs = [_cost_of_step(scratch, stages[number].start, share) for number in measured]
    counts = [astuple(passes) for passes, _ in costs]
    seconds = np.interp(range(len(stages)), measured, [each for _, each in costs])
    mean = float(np.average(seconds, weights=[len(stage) for stage in stages]))
    fewest, most = (Passes(*map(extreme, zip(*counts, strict=True))) for extreme in (min, max))
    return fewest, most, mean


def _cost_of_step(scratch: Assembly, epoch: int, share: float) -> tuple[Passes, float]:
    """Passes and median seconds of one training step of an epoch.

    They are measured for ``share`` seconds or so, but on no more steps than the run has.
    """
    engine = scratch.engine
    initial = {name: value.clone() for name, value in engine.model.state_dict().items()}
    if epoch != engine.epoch:
        engine.epoch = epoch

    def seconds_of(batch: Batch) -> float:
        start = perf_counter()
        engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux)
        _synchronize(engine.device)
        seconds = perf_counter() - start
        engine.model.load_state_dict(initial)
        return seconds

    before = replace(engine.at_work.counter.passes)
    seconds_of(next(_batches(scratch)))
    passes = engine.at_work.counter.passes - before
    begin, times, batches = perf_counter(), list[float](), _batches(scratch)
    while len(times) < 3 or (len(times) < scratch.length.steps and perf_counter() - begin < share):
        times.append(seconds_of(next(batches)))
        if perf_counter() - begin > 10 * share:
            break
    return passes, median(times)


def _batches(scratch: Assembly) -> Iterator[Batch]:
    """The batches of the first epoch, again and again, each made when it is asked for."""
    while True:
        yield from scratch.training_set.batches(0)


def _evaluation_seconds(scratch: Assembly) -> float:
    """Seconds of evaluating one example."""
    sample = test_sample(scratch, CALIBRATION_EXAMPLES)
    scratch.evaluator.score(sample)
    start = perf_counter()
    scratch.evaluator.score(sample)
    return (perf_counter() - start) / len(sample)


def test_sample(scratch: Assembly, examples: int) -> Split:
    """The first ``examples`` of the test split, in memory on the device."""
    test = scratch.data.test
    batch = next(iter(test.batches(torch.arange(min(examples, len(test))), examples)))
    return Split(batch.x, batch.y, test.memory_format, batch.aux)


def reestimation_seconds(scratch: Assembly, track: Track) -> float:
    """Seconds of measuring the batch norm of a track on one batch."""
    engine, batch = scratch.engine, next(_batches(scratch))
    begun = replace(track, weights={name: weight.detach() for name, weight in engine.model.named_parameters()})
    times = []
    for batches in ([batch], [batch], [batch, batch]):  # to warm up; then the difference leaves out what is done once
        start = perf_counter()
        with engine.track(begun, lambda given=batches: given):  # type: ignore[misc]
            _synchronize(engine.device)
        times.append(perf_counter() - start)
    return max(0.0, times[2] - times[1])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
