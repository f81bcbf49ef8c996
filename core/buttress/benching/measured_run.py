"""An assembled run whose steps and evaluations are measured one by one, each from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from buttress.benching.phases import DATA, ENGINE, PhaseMeter, phases_metered
from buttress.benching.work import OperatorCount
from buttress.data import Split
from buttress.nn.passes import Passes
from buttress.training.assembly import Assembly
from buttress.training.forecast import test_sample
from buttress.types import Batch


@dataclass(frozen=True)
class Sizes:
    """The sizes of what is measured.

    Args:
        batch: number of examples in a batch.
        example: shape of one example.
        replays: number of steps on each batch.
        steps_per_epoch: number of steps in an epoch.
        epochs: number of epochs of the run.
        parameters: number of elements of the weights.
        evaluated: number of test examples that are evaluated in a round.
    """

    batch: int
    example: tuple[int, ...]
    replays: int
    steps_per_epoch: int
    epochs: int
    parameters: int
    evaluated: int


@dataclass(frozen=True)
class StepWork:
    """The work in one training step.

    Args:
        passes: forwards and backwards of the model.
        flops: floating-point operations by phase.
        bytes: bytes that operators read and write, by phase.
    """

    passes: Passes
    flops: dict[str, float]
    bytes: dict[str, float]


class MeasuredRun:
    """The run that is measured.

    Args:
        assembly: assembled run, which is thrown away afterwards.
        epoch: 0-based epoch whose schedules hold.
    """

    def __init__(self, assembly: Assembly, epoch: int) -> None:
        self.assembly, self.engine, self.epoch = assembly, assembly.engine, epoch
        self.replays = assembly.file.config.data.replays
        self.batches = _complete_batches(assembly, epoch)
        config = assembly.file.config
        self.sample: Split = test_sample(assembly, min(config.data.batch_size, config.evaluation.batch_size))
        self.losses = torch.zeros(1)
        self._initial = initial_values(self.engine.model)
        if epoch != self.engine.epoch:
            self.engine.epoch = epoch

    def train(self, batch: Batch) -> None:
        """Make the steps of one batch: as many as there are replays."""
        for _ in range(self.replays):
            self.losses = self.engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux).losses

    def train_metered(self, meter: PhaseMeter) -> Batch:
        """Read a batch and make its steps, split into phases by a new ``meter``; the weights come back.

        Returns:
            The batch.
        """
        begin = meter.read()
        with meter.during(DATA):
            batch = next(self.batches)
        with phases_metered(self.engine, meter):
            self.train(batch)
        meter.amounts[ENGINE] = meter.read() - begin - sum(meter.amounts.values())
        self.restore()
        return batch

    def restore(self) -> None:
        """Put the initial weights back, so that nothing diverges however long it is measured."""
        self.engine.model.load_state_dict(self._initial)

    def evaluate(self) -> None:
        """Evaluate the live model on the sample."""
        self.assembly.evaluator.score(self.sample)

    def work(self) -> StepWork:
        """Count the work of a training step, whose passes are not compiled meanwhile."""
        counter = self.engine.at_work.counter
        before = replace(counter.passes)
        amounts = []
        with OperatorCount() as count, self.engine.at_work.eagerly():
            for read in (lambda: count.flops, lambda: count.bytes):
                meter = PhaseMeter(read)
                self.train_metered(meter)
                amounts.append({phase: amount / self.replays for phase, amount in meter.amounts.items()})
        steps = 2 * self.replays
        made = counter.passes - before
        return StepWork(Passes(*(round(each / steps) for each in vars(made).values())), *amounts)


def sizes_of(run: MeasuredRun) -> Sizes:
    """The sizes of a measured run."""
    assembly = run.assembly
    return Sizes(
        batch=len(next(run.batches).x),
        example=tuple(assembly.data.train.example_shape),
        replays=run.replays,
        steps_per_epoch=assembly.length.steps_per_epoch,
        epochs=assembly.length.epochs,
        parameters=sum(weight.numel() for weight in run.engine.model.parameters()),
        evaluated=len(run.sample),
    )


def initial_values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all values of ``model``, by name."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def _complete_batches(assembly: Assembly, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch again and again, those as large as the first."""
    while True:
        batches = assembly.training_set.batches(epoch)
        first = next(batches)
        yield first
        yield from (batch for batch in batches if len(batch.x) == len(first.x))
