"""Measure the speed of a config on this machine; see ``Speed`` for what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from buttress.benching.between_epochs import between_epochs
from buttress.benching.hand_written import HandWritten, method_of
from buttress.benching.limits import Limit, matrix_product, memory_copy
from buttress.benching.machine import clock_of, facts_of, forget_peak, load, peak_memory
from buttress.benching.measured_run import MeasuredRun, sizes_of
from buttress.benching.phases import phases_of
from buttress.benching.rounds import measured_round, warm_up
from buttress.benching.speed import Speed
from buttress.config.file import ConfigFile
from buttress.console.reporter import Reporter
from buttress.errors import ConfigError
from buttress.kernels import use_backend
from buttress.training.assembly import Assembly, scratch_assembly


@dataclass(frozen=True)
class BenchOptions:
    """How much is measured, and where in the run.

    Args:
        rounds: number of rounds that count.
        warmup: number of rounds before, which do not.
        epoch: 0-based epoch whose schedules hold.

    Raises:
        ConfigError: a number is too small.
    """

    rounds: int = 7
    warmup: int = 2
    epoch: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("rounds", self.rounds, 1), ("warmup", self.warmup, 0), ("epoch", self.epoch, 0)):
            if value < least:
                raise ConfigError(f"expected a number >= {least}", key=f"--{name} {value}")


def bench(file: ConfigFile, options: BenchOptions, reporter: Reporter) -> Speed:
    """Measure the speed of a config; nothing that is written stays.

    Args:
        file: the config.
        options: how much is measured.
        reporter: shows the progress.

    Raises:
        InputError: anything about the input.
        WorkError: a step or an evaluation fails.
    """
    with use_backend(file.config.backend), _algorithms(file.config.deterministic), scratch_assembly(file) as assembly:
        if options.epoch >= assembly.length.epochs:
            raise ConfigError(
                f"expected an epoch of the run, 0 to {assembly.length.epochs - 1}", key=f"--epoch {options.epoch}"
            )
        return _measured(assembly, options, reporter)


def _measured(assembly: Assembly, options: BenchOptions, reporter: Reporter) -> Speed:
    engine = assembly.engine
    clock, load_before = clock_of(engine.device), load()
    forget_peak(engine.device)
    reporter.begin(options.warmup + options.rounds, 0, "warming up")
    run = MeasuredRun(assembly, options.epoch)
    warm_up(run)  # alone: what follows takes memory too
    peak, work = peak_memory(engine.device), run.work()
    method = method_of(run, work)
    loop, limits = HandWritten(run, method) if method else None, _limits(assembly)
    rounds = []
    for _ in range(options.warmup + options.rounds):
        rounds.append(measured_round(run, loop, limits, clock))
        reporter.advance("measuring")
    return Speed(
        name=assembly.file.config.name,
        config=assembly.resolved,
        epoch=options.epoch,
        warmup=options.warmup,
        sizes=sizes_of(run),
        facts={**facts_of(engine.device), "load": {"before": load_before, "after": load()}},
        precision=engine.at_work.precision,
        phases=phases_of(engine),
        work=work,
        rounds=rounds[options.warmup :],
        limits={limit.name: limit.amount for limit in limits},
        method=method,
        between=between_epochs(run, clock),
        peak_memory=peak,
    )


def _limits(assembly: Assembly) -> list[Limit]:
    device, precision = assembly.engine.device, assembly.engine.at_work.precision
    words = dict.fromkeys([precision.attack, precision.train])
    return [*(matrix_product(word, device) for word in words), memory_copy(device)]


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms alone in the block, where the config wants that."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
