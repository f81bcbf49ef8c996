"""The mutable state of a run, shared by all contexts of an engine: position, random streams, records of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from buttress.engine.part import StepPart
from buttress.engine.randomness import Randomness
from buttress.engine.training_threat import TrainingThreat
from buttress.engine.world import World
from buttress.errors import ConfigError, moment
from buttress.storage.history import Store
from buttress.streams import Streams
from buttress.types import Rows

if TYPE_CHECKING:
    from buttress.nn.calls import Outputs
    from buttress.threat import ThreatModel
    from buttress.types import Adv, Batch

Phase = Literal["setup", "attack", "perturb", "train", "ensemble", "evaluate"]


class RunState(Randomness):
    """The one mutable record that all contexts of an engine share.

    ``epoch`` and ``step`` (within the epoch) and ``global_step`` are 0-based.
    """

    def __init__(
        self,
        threat: ThreatModel | TrainingThreat,
        device: torch.device,
        *,
        seed: int = 0,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        replays: int = 1,
        examples: int | None = None,
        classes: tuple[int, ...] | None = None,
        phase: Phase = "setup",
        store: Store | None = None,
        world: World | None = None,
    ) -> None:
        super().__init__(device, seed)
        self.world = World() if world is None else world
        self.part = StepPart(self.world)
        self.training_threat = threat if isinstance(threat, TrainingThreat) else TrainingThreat(threat)
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.replays, self.examples, self.classes = replays, examples, classes
        self.global_step = 0
        self.phase: Phase = phase
        self.store = store or Store(None)
        self.folder: Path | None = None
        self.elsewhere = ""  # place for messages while no step is being made: the evaluation, and the batch in it
        self.records: dict[str, list[Tensor | float]] = {}
        self.outputs: Outputs | None = None  # of the model, while compute_loss is called
        self.training_batches: Callable[[str], Iterable[Batch]] = _no_batches
        self.attacked_losses: Callable[[Tensor], Tensor] | None = None
        self.validation_batches: Callable[[], Iterable[Batch]] = _no_validation
        self.attack: Callable[[str, Batch], Adv] | None = None  # for plugins that ask, at the end of an epoch
        self._skipped: Tensor | None = None
        self._input_grad: tuple[Tensor | None] | None = None

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the present epoch."""
        return self.training_threat.at(self.epoch)

    @contextmanager
    def on_rows(self, rows: Rows | None) -> Iterator[None]:
        """Let the batch of the block be the part of a larger one that these rows are; None: a whole one."""
        before, self.part = self.part, StepPart(self.world, rows)
        try:
            yield
        finally:
            self.part = before

    # Position

    @property
    def place(self) -> str:
        """The current place in the run, for messages."""
        return self.elsewhere or moment(self.epoch, self.step)

    @property
    def between_steps(self) -> str:
        """The current place in the run while no step is being made, for messages."""
        if self.step:
            return f"after step {self.step} of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}" if self.epoch else "before the first step"

    @contextmanager
    def outside_of_steps(self, activity: str = "") -> Iterator[None]:
        """Let messages about the block name ``activity`` in the place of a training step."""
        before = self.elsewhere
        self.elsewhere = ", ".join(part for part in (activity, self.between_steps) if part)
        try:
            yield
        finally:
            self.elsewhere = before

    @contextmanager
    def in_phase(self, phase: Phase) -> Iterator[None]:
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    @contextmanager
    def showing(self, outputs: Outputs) -> Iterator[None]:
        """Let contexts show these outputs of the model while ``compute_loss`` is called."""
        before, self.outputs = self.outputs, outputs
        try:
            yield
        finally:
            self.outputs = before

    @contextmanager
    def attacking(self, losses: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Run the block in phase ``attack``, where ``losses`` gives the training losses at attacked inputs."""
        before, self.attacked_losses = self.attacked_losses, losses
        try:
            with self.in_phase("attack"):
                yield
        finally:
            self.attacked_losses = before

    @property
    def skipped(self) -> Tensor:
        """A 0-dim bool: whether the step that has just been made was taken back.

        Raises:
            RuntimeError: no step has just been made.
        """
        if self._skipped is None:
            raise RuntimeError(
                "ctx.skipped is available in ensemble_weights at event 'step' only, where it is known whether the step "
                "was taken back; update there what the plugin remembers of a step"
            )
        return self._skipped

    @property
    def input_grad(self) -> Tensor | None:
        """Gradient of the training loss with respect to the adversarial examples, where a plugin has asked for it.

        Raises:
            RuntimeError: no gradients are adjusted at the moment.
        """
        if self._input_grad is None:
            raise RuntimeError(
                "ctx.input_grad is available in adjust_grads only, right after the backward of the training loss"
            )
        return self._input_grad[0]

    @contextmanager
    def adjusting(self, input_grad: Tensor | None) -> Iterator[None]:
        """Let the block, in which gradients are adjusted, know that with respect to the adversarial examples."""
        self._input_grad = (input_grad,)
        try:
            yield
        finally:
            self._input_grad = None

    @contextmanager
    def after_update(self, skipped: Tensor) -> Iterator[None]:
        """Let the block, right after an update, know whether it was taken back: ``skipped``, a 0-dim bool."""
        self.phase, self._skipped = "ensemble", skipped
        try:
            yield
        finally:
            self._skipped = None

    def end_step(self) -> None:
        self.draws = {}
        self.step += 1
        self.global_step += 1

    def end_epoch(self) -> None:
        self.epoch, self.step = self.epoch + 1, 0

    def go_to_epoch(self, epoch: int) -> None:
        """Continue at the beginning of an epoch, 0-based."""
        self.epoch, self.step = epoch, 0
        self.rewind()

    @contextmanager
    def streams_apart(self, reader: str, streams: Streams | None = None) -> Iterator[None]:
        """Give the block random streams of the ``reader``'s own, and no injected draws; nothing outside moves.

        Messages about the block name the reader in the place of a training step.

        Args:
            reader: name that is part of the key of every stream inside: ``"track swa"``.
            streams: dictionary, empty at first, in which the streams continue from one block to the next.
        """
        with self._reading(reader, {} if streams is None else streams), self.outside_of_steps(reader):
            yield

    # Records and checkpoints

    @contextmanager
    def records_apart(self) -> Iterator[None]:
        """Leave what plugins record in the block out of the run's metrics."""
        before, self.records = self.records, {}
        try:
            yield
        finally:
            self.records = before

    def record(self, name: str, value: Tensor | float) -> None:
        """Add to a metric; in a step each rank's value weighs as much as its rows."""
        share = 1 / self.world.size if self.part.is_whole else self.part.share
        total = self.records.setdefault(name, [0.0, 0.0])
        value = value.double() if isinstance(value, Tensor) else value
        total[0] = total[0] + (value if share == 1 else value * share)
        total[1] = total[1] + share

    def take_records(self) -> dict[str, float]:
        """Means of the metrics that plugins recorded since the last call, on any rank; waits for the device."""
        sums = self._records_of_all_ranks()
        self.records = {}
        return {name: total / count for name, (total, count) in sums.items()}

    def _records_of_all_ranks(self) -> dict[str, tuple[float, float]]:
        own = {name: (float(total), float(count)) for name, (total, count) in self.records.items()}
        sums: dict[str, tuple[float, float]] = {}
        for records in self.world.gathered(own, "records"):
            for name, (total, count) in records.items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = before[0] + total, before[1] + count
        return sums

    def state_dict(self) -> dict[str, Any]:
        """Counters and records: tensors and plain numbers."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "global_step": self.global_step,
            "records": self._saved_records(),
        }

    def _saved_records(self) -> dict[str, list[Tensor | float]]:
        if self.world.size == 1:
            return {name: [_plain(value) for value in total] for name, total in self.records.items()}
        return {name: list(total) for name, total in self._records_of_all_ranks().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.epoch, self.step, self.global_step = state["epoch"], state["step"], state["global_step"]
        self.records = {name: list(total) for name, total in state["records"].items()} if self.world.is_main else {}
        self.rewind()


def _no_batches(reader: str) -> Iterable[Batch]:
    raise ConfigError(
        f"{reader}: batch-norm statistics are to be measured on the training set: pass Engine(batches=...), a function "
        "that makes an iterable of its batches"
    )


def _no_validation() -> Iterable[Batch]:
    raise ConfigError(
        "ctx.batches('validation'): the run has no validation split: set data.validation, or pass "
        "Engine(validation=...), a function that makes an iterable of its batches"
    )


def _plain(value: Tensor | float) -> Tensor | float:
    """A recorded value as a tensor or a float, whatever kind of number the plugin recorded."""
    return value if isinstance(value, Tensor) else float(value)
