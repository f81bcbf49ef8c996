"""Rounds of measurement: in each, everything that is measured has its turn, so that a busy machine slows all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buttress.benching.hand_written import HandWritten, plain_batch
from buttress.benching.limits import Limit
from buttress.benching.machine import waits
from buttress.benching.measured_run import MeasuredRun
from buttress.benching.phases import DATA, PhaseMeter
from buttress.types import Batch

Clock = Callable[[], float]
"""Returns the time in seconds."""


@dataclass(frozen=True)
class Round:
    """Seconds of one round, in which a batch is trained as often as the config has replays.

    Args:
        data: reading the batch.
        steps: training steps.
        phases: reading and training steps, by phase. On CUDA those of another batch: the host waits for the device
            wherever a phase begins and ends, which costs time.
        evaluation: an evaluation of the sample.
        loop: steps of the hand-written loop on the same batch; None without one.
        limits: work of each limit, by its name.
    """

    data: float
    steps: float
    phases: dict[str, float]
    evaluation: float
    loop: float | None
    limits: dict[str, float]


def warm_up(run: MeasuredRun) -> None:
    """Train on a batch and evaluate the sample."""
    run.train(next(run.batches))
    run.restore()
    run.evaluate()


def measured_round(run: MeasuredRun, loop: HandWritten | None, limits: Sequence[Limit], clock: Clock) -> Round:
    """Give everything its turn."""
    meter = PhaseMeter(clock)
    batch = run.train_metered(meter)
    data, steps = meter.amounts[DATA], sum(meter.amounts.values()) - meter.amounts[DATA]
    if waits(run.engine.device):
        data, steps = _seconds_unmetered(run, clock)
    return Round(
        data=data,
        steps=steps,
        phases=meter.amounts,
        loop=None if loop is None else _seconds_of_loop(loop, batch, clock),
        evaluation=seconds_of(run.evaluate, clock),
        limits={limit.name: seconds_of(limit.call, clock) for limit in limits},
    )


def _seconds_unmetered(run: MeasuredRun, clock: Clock) -> tuple[float, float]:
    """Seconds of reading a batch and of its training steps, which nothing interrupts."""
    begin = clock()
    batch = next(run.batches)
    read = clock()
    run.train(batch)
    end = clock()
    run.restore()
    return read - begin, end - read


def _seconds_of_loop(loop: HandWritten, batch: Batch, clock: Clock) -> float:
    plain = plain_batch(batch)
    seconds = seconds_of(lambda: loop.train(plain), clock)
    loop.restore()
    return seconds


def seconds_of(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of one call."""
    begin = clock()
    call()
    return clock() - begin
