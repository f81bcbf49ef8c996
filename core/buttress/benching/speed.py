"""The speed of a config on a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from buttress.benching.between_epochs import BetweenEpochs
from buttress.benching.hand_written import LoopMethod
from buttress.benching.limits import COPY, product_name
from buttress.benching.measured_run import Sizes, StepWork
from buttress.benching.phases import EVALUATION
from buttress.benching.rounds import Round
from buttress.precision import Precision

NO_METHOD = "a step takes no gradient of the inputs alone, so there is no attack to write by hand"


@dataclass(frozen=True)
class LimitShare:
    """How near a step comes to a limit of the machine.

    Args:
        limit: name of the limit.
        amount: floating-point operations or bytes of one step.
        per_second: floating-point operations or bytes in a second, at the limit.
        share: share of the step's time that this would take at the limit.
    """

    limit: str
    amount: float
    per_second: float
    share: float


@dataclass(frozen=True)
class Speed:
    """The measurements of a config, and the numbers that follow from them.

    Args:
        name: name of the config.
        config: config with every default filled in.
        epoch: 0-based epoch whose schedules held.
        warmup: number of rounds before those that count.
        sizes: sizes of data, model and run.
        facts: versions, hardware, threads and load.
        precision: precision of the passes.
        phases: phases of the run, in order.
        work: work in one training step.
        rounds: times of each round.
        limits: operations or bytes of one call of each limit, by name.
        method: method of the hand-written loop; None where there is none to compare with.
        between: cost of what happens between epochs.
        peak_memory: most bytes while training and evaluating, where the system says so.
    """

    name: str
    config: Mapping[str, Any]
    epoch: int
    warmup: int
    sizes: Sizes
    facts: Mapping[str, Any]
    precision: Precision
    phases: tuple[str, ...]
    work: StepWork
    rounds: list[Round]
    limits: Mapping[str, int]
    method: LoopMethod | None
    between: BetweenEpochs
    peak_memory: int | None

    # Seconds

    @property
    def step_seconds(self) -> float:
        """Seconds of one training step, and of reading its share of a batch."""
        return self._of_a_step(lambda each: each.data + each.steps)

    @property
    def update_seconds(self) -> float:
        """Seconds of one training step, of a batch that has been read."""
        return self._of_a_step(lambda each: each.steps)

    @property
    def loop_seconds(self) -> float | None:
        """Seconds of one step of the hand-written loop, which reads nothing."""
        return None if self.method is None else self._of_a_step(lambda each: each.loop or 0.0)

    @property
    def loop_precision(self) -> str:
        """Dtype of the hand-written loop: that of the weights."""
        return "float64" if self.precision.train == "float64" else "float32"

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of the seconds of the config's steps over those of the hand-written loop."""
        return None if self.method is None else median(each.steps / each.loop for each in self.rounds if each.loop)

    def phase_seconds(self) -> dict[str, float]:
        """Seconds of each phase of a training step; on CUDA their sum is more than ``step_seconds``."""
        names = [name for name in self.phases if name in self.rounds[0].phases]
        return {name: self._of_a_step(partial(_seconds_in, name)) for name in names}

    def epoch_seconds(self) -> dict[str, float]:
        """Seconds of each phase in an epoch of training, its end and its share of an evaluation included."""
        seconds = {name: self.sizes.steps_per_epoch * each for name, each in self.phase_seconds().items()}
        for name, each in self.between.epoch_end.items():
            seconds[name] = seconds.get(name, 0.0) + each
        seconds[EVALUATION] = self.between.evaluation_seconds(1 / self.evaluated_per_second)
        return {name: seconds[name] for name in self.phases}

    def _of_a_step(self, seconds: Callable[[Round], float]) -> float:
        return median(map(seconds, self.rounds)) / self.sizes.replays

    # Rates

    @property
    def examples_per_second(self) -> float:
        """Number of examples trained in a second; each replay of an example counts."""
        return self.sizes.batch / self.step_seconds

    @property
    def evaluated_per_second(self) -> float:
        """Number of examples evaluated in a second."""
        return self.sizes.evaluated / median(each.evaluation for each in self.rounds)

    def shares(self) -> list[LimitShare]:
        """How near a step comes to the limits of the machine."""
        by_word: dict[str, float] = {}
        for phase, flops in self.work.flops.items():
            word = self.precision.attack if phase == "attack" else self.precision.train
            by_word[word] = by_word.get(word, 0.0) + flops
        amounts = {product_name(word): flops for word, flops in by_word.items()}
        amounts[COPY] = sum(self.work.bytes.values())
        return [self._share(name, amounts.get(name, 0.0)) for name in self.limits]

    def _share(self, limit: str, amount: float) -> LimitShare:
        per_second = self.limits[limit] / median(each.limits[limit] for each in self.rounds)
        return LimitShare(limit, amount, per_second, amount / per_second / self.step_seconds)

    def to_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        method = None if self.method is None else {"name": str(self.method), **asdict(self.method)}
        return {
            "name": self.name,
            **self.facts,
            "precision": asdict(self.precision),
            "memory_format": self.config["model"]["memory_format"],
            "seed": self.config["seed"],
            "epoch": self.epoch,
            "warmup": self.warmup,
            "rounds": [asdict(each) for each in self.rounds],
            "sizes": asdict(self.sizes),
            "step_seconds": self.step_seconds,
            "examples_per_second": self.examples_per_second,
            "evaluated_per_second": self.evaluated_per_second,
            "step_seconds_by_phase": self.phase_seconds(),
            "epoch_seconds_by_phase": self.epoch_seconds(),
            "between_epochs": asdict(self.between),
            "work": asdict(self.work),
            "limits": [asdict(each) for each in self.shares()],
            "peak_memory_bytes": self.peak_memory,
            "hand_written": {"method": method, "step_seconds": self.loop_seconds, "ratio": self.ratio}
            | ({} if method else {"reason": NO_METHOD}),
            "config": self.config,
        }


def _seconds_in(phase: str, measured: Round) -> float:
    return measured.phases[phase]
