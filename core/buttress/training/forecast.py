"""Forecast the cost of a run before its first step, from passes counted on the model and a short calibration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean, median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from buttress.console.tables import duration
from buttress.data import Split
from buttress.training.assembly import Assembly
from buttress.types import Batch, Track

# Long enough for a stable mean on an idle machine, short beside any run worth a forecast.
CALIBRATION_SECONDS = 1.0
# Examples attacked to time an evaluation, after as many to warm up.
CALIBRATION_EXAMPLES = 256


@dataclass
class Passes:
    """Forwards and backwards through the model."""

    forwards: int = 0
    input_backwards: int = 0
    weight_backwards: int = 0


@dataclass(frozen=True)
class Forecast:
    """The cost of a run.

    Args:
        passes: number of passes in one training step.
        step_seconds: seconds of one training step.
        steps: number of training steps.
        example_seconds: seconds of evaluating one example.
        examples: number of examples in all evaluations, as if every track had begun (in fact tracks that have not
            begun are free).
        batch_seconds: seconds of measuring batch norm on one batch.
        batches: number of batches on which batch norm is measured, as if every track had begun.
    """

    passes: Passes
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

    def __str__(self) -> str:
        p = self.passes
        step = f"{1000 * self.step_seconds:.0f} ms" if self.step_seconds < 1 else duration(self.step_seconds)
        return (
            f"each step: {p.forwards} forwards, {p.input_backwards} backwards to the input, {p.weight_backwards} to "
            f"the weights, {step}; about {duration(self.train_seconds)} of training and "
            f"up to {duration(self.evaluation_seconds)} of evaluation"
        )


@contextmanager
def counted(model: nn.Module, examples: Passes | None = None) -> Iterator[Passes]:
    """Count the passes through ``model``; a backward counts as one to the input where no weight requires gradients.

    Args:
        model: the module.
        examples: counter to which the number of examples in the passes is added, or None.
    """
    passes, examples = Passes(), examples or Passes()

    def after_forward(module: nn.Module, _: Any, output: Any) -> None:
        count_pass(module, output, passes, examples)

    handle = model.register_forward_hook(after_forward)
    try:
        yield passes
    finally:
        handle.remove()


def count_pass(model: nn.Module, output: Any, passes: Passes, examples: Passes) -> None:
    """Count a forward through ``model``, or a part of it, that gave ``output``, and every backward through that.

    Args:
        model: the whole module, whose weights say of which kind a backward is.
        output: ``[B,*]``, or something else, of which only the forward is counted.
        passes: counter of the passes.
        examples: counter of the examples in them.
    """
    size = len(output) if isinstance(output, Tensor) and output.dim() else 0
    _add("forwards", size, passes, examples)
    if isinstance(output, Tensor) and output.requires_grad:
        to_weights = any(parameter.requires_grad for parameter in model.parameters())
        kind = "weight_backwards" if to_weights else "input_backwards"
        output.register_hook(lambda _: _add(kind, size, passes, examples))  # type: ignore[no-untyped-call]


def _add(kind: str, size: int, passes: Passes, examples: Passes) -> None:
    setattr(passes, kind, getattr(passes, kind) + 1)
    setattr(examples, kind, getattr(examples, kind) + size)


def forecast(scratch: Assembly) -> Forecast:
    """Run a few steps of ``scratch``, an assembly that is thrown away afterwards, and extrapolate.

    Every step starts at the initial weights: nothing can diverge before the run has begun.
    """
    config, engine = scratch.file.config, scratch.engine
    initial = {name: value.clone() for name, value in engine.model.state_dict().items()}
    first = next(_batches(scratch))
    with counted(engine.model) as passes:
        engine.step(first.x, first.y, index=first.index, aux=first.aux)
    _synchronize(engine.device)
    begin, times, batches = perf_counter(), list[float](), _batches(scratch)
    while len(times) < 3 or perf_counter() - begin < CALIBRATION_SECONDS:
        batch = next(batches)
        start = perf_counter()
        engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux)
        _synchronize(engine.device)
        times.append(perf_counter() - start)
        engine.model.load_state_dict(initial)
        if perf_counter() - begin > 10 * CALIBRATION_SECONDS:
            break
    step_seconds = median(times)
    examples = sum(map(len, scratch.evaluated_splits.values()))
    evaluations = -(-config.epochs // config.evaluation.every)  # rounded up: the last epoch always has one
    tracks = engine.tracks()
    measured = [track for track in tracks if track.buffers == "reestimate"]
    return Forecast(
        passes=passes,
        step_seconds=step_seconds,
        steps=scratch.steps * config.epochs,
        example_seconds=_evaluation_seconds(scratch),
        examples=examples * (1 + len(tracks)) * evaluations,
        batch_seconds=fmean(_reestimation_seconds(scratch, track, first) for track in measured) if measured else 0,
        batches=scratch.batches * len(measured) * evaluations,
    )


def _batches(scratch: Assembly) -> Iterator[Batch]:
    """The batches of the first epoch, again and again, each made when it is asked for."""
    while True:
        yield from scratch.training_set.batches(0)


def _evaluation_seconds(scratch: Assembly) -> float:
    """Seconds of evaluating one example."""
    test = scratch.data.test
    batch = next(iter(test.batches(torch.arange(min(CALIBRATION_EXAMPLES, len(test))), CALIBRATION_EXAMPLES)))
    sample = Split(batch.x, batch.y, test.memory_format, batch.aux)
    scratch.evaluator.score(sample)
    start = perf_counter()
    scratch.evaluator.score(sample)
    return (perf_counter() - start) / len(sample)


def _reestimation_seconds(scratch: Assembly, track: Track, batch: Batch) -> float:
    """Seconds of measuring the batch norm of a track on one batch."""
    engine = scratch.engine
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
