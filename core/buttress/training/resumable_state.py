"""The mutable state of a run, saved to a checkpoint and restored from it exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buttress.engine.engine import Engine
from buttress.engine.world import World
from buttress.nn.loading import fit_weights
from buttress.storage.fingerprints import Fingerprint
from buttress.storage.run_folder import RunFolder
from buttress.storage.shapes import parse_shape
from buttress.training.alike_states import expect_alike_states
from buttress.training.checkpoint import remove_newer, restore_checkpoint, restore_newest, save_checkpoint
from buttress.training.checkpoint_state import CheckpointState, expect_optimizer_state, expect_place, unusable
from buttress.training.kept_state import states_named
from buttress.training.kept_weights import KeptWeights, UnwrittenWeights
from buttress.training.length import Length
from buttress.training.metrics_file import MetricsFile, UnwrittenMetrics
from buttress.training.optimizer import load_optimizer_state
from buttress.training.ownership import owner_of
from buttress.training.rng_states import restore_rng, rng_states
from buttress.training.same_data import expect_equal_data
from buttress.training.selection import Record


class ResumableState:
    """The mutable state of a run: the engine, and the records and files that the run keeps beside it.

    Args:
        engine: with model and optimizer.
        length: length of the run.
        data: fingerprint of each split.
        folder: folder of the run.
        keep: number of good checkpoints that stay.
        say: tells the user.
    """

    def __init__(
        self,
        engine: Engine,
        length: Length,
        data: Mapping[str, Fingerprint],
        folder: RunFolder,
        keep: int,
        say: Callable[[str], None],
    ) -> None:
        self._engine, self._length, self._data = engine, length, data
        self._folder, self._keep, self._say, self._world = folder, keep, say, engine.world
        writes = self._world.is_main
        self.metrics = MetricsFile(folder.metrics) if writes else UnwrittenMetrics(folder.metrics)
        self.weights = KeptWeights(folder) if writes else UnwrittenWeights(folder)
        self.records: list[Record] = []
        self.epoch_loss, self.interval_loss = (RunningMean(engine.device, self._world) for _ in range(2))
        self.rollbacks = 0
        self.processes = self._world.size
        """Number of processes that trained up to the last checkpoint."""
        self._owner = owner_of(folder)

    def save(self) -> None:
        """Write a checkpoint, on the main rank; the caller has made sure that what is saved is good.

        Raises:
            StorageError: the disk is full or refuses, or the run folder is gone; earlier checkpoints are intact.
            HookError: no checkpoint can hold the state of a plugin, or it differs between ranks; earlier checkpoints
                are intact.
        """
        self._folder.expect_there()
        self.metrics.sync()
        with states_named():
            step, state = self._engine.global_step, self.state_dict()
            expect_alike_states(self._world, state["engine"]["plugins"])
            if self._world.is_main:
                save_checkpoint(self._folder.checkpoints, step, state, self._keep, self.weights.paths, self._owner)
        self._world.wait("checkpoint")

    def restore(self, at_most: int | None = None) -> Path:
        """Go back to the newest good checkpoint, of at most that global step; a damaged one is named and passed over.

        Raises:
            CheckpointError: none can be loaded, or one belongs to another run.
            DataError: it is of a run on other data.
        """
        path = None
        if self._world.is_main:
            path = restore_newest(self._folder.checkpoints, self._load_state, self._say, at_most, self._accept)
        path = self._world.from_main(path, "checkpoint")
        assert path is not None
        if not self._world.is_main:
            restore_checkpoint(path, self._load_state, self._accept)
        return path

    def _accept(self, checkpoint: Path, body: Mapping[str, Any]) -> None:
        self._owner = self._owner.accept(checkpoint, body)

    def put_back_files(self, checkpoint: Path) -> bool:
        """Make the kept weights and the metrics those of the checkpoint that has been restored.

        Newer checkpoints are removed before anything is touched that they refer to: a process that is killed here
        leaves none that its files no longer belong to.

        Returns:
            Whether the metrics are no longer those that the checkpoint knows; it should be saved once more.

        Raises:
            CheckpointError, StorageError: one cannot be read; the disk is full or refuses.
        """
        rewritten = False
        if self._world.is_main:
            remove_newer(checkpoint)
            self.weights.put_back(checkpoint, self._say)
            rewritten = self.metrics.put_back([asdict(record) for record in self.records], self._say)
        return self._world.from_main(rewritten, "files of a checkpoint")

    def state_dict(self) -> dict[str, Any]:
        """The state that the rest of the run depends on."""
        engine = self._engine
        return {
            "data": dict(self._data),
            "model": {name: tensor.contiguous() for name, tensor in engine.model.state_dict().items()},
            "optimizer": engine.optimizer.state_dict(),
            "engine": engine.state_dict(),
            **rng_states(self._world, engine.device),
            "records": [asdict(record) for record in self.records],
            "rollbacks": self.rollbacks,
            "epoch_loss": self.epoch_loss.total(),
            "interval_loss": self.interval_loss.total(),
            "rank_losses": self._rank_losses(),
            "weights": dict(self.weights.sha256),
            "metrics_bytes": self.metrics.size,
            "metrics_sha256": self.metrics.sha256,
        }

    def _rank_losses(self) -> list[list[Tensor]]:
        """Losses of the epoch and of the interval as each of several ranks has them, whose sums round in its order."""
        own = [each.state.cpu() for each in (self.epoch_loss, self.interval_loss)]
        return self._world.gathered(own, "losses") if self._world.size > 1 else []

    def _load_state(self, saved: Mapping[str, Any]) -> None:
        """Take a checkpoint's state.

        Raises:
            CheckpointError: it is no state that this run can take.
            DataError: it is of a run on other data.
        """
        engine, state = self._engine, parse_shape(CheckpointState, saved, "the checkpoint's state")
        if state.data is not None:  # where the manifest is damaged, a checkpoint still knows them
            expect_equal_data(self._folder, state.data, self._data)
        expect_place(state, self._length)
        expect_optimizer_state(engine.optimizer, state.optimizer)
        with unusable():
            fit_weights(engine.model, state.model, "the checkpoint")
            engine.load_state_dict(saved["engine"])
            load_optimizer_state(engine.optimizer, state.optimizer)
            restore_rng(state, self._world, engine.device, (engine.seed, engine.global_step))
            own = state.rank_losses[self._world.rank] if len(state.rank_losses) == self._world.size else [None] * 2
            self.epoch_loss.load(state.epoch_loss, own[0])
            self.interval_loss.load(state.interval_loss, own[1])
        self.records = [Record(**each.model_dump()) for each in state.records]
        self.weights.sha256 = dict(state.weights)
        self.metrics.expect(state.metrics_bytes, state.metrics_sha256)
        self.rollbacks, self.processes = state.rollbacks, state.processes


class RunningMean:
    """A mean over the examples of all ranks, which stays on the device until it is taken."""

    def __init__(self, device: torch.device, world: World | None = None) -> None:
        self.state = torch.zeros(2, dtype=torch.float64, device=device)
        self._world = World() if world is None else world

    def load(self, total: Tensor, own: Tensor | None = None) -> None:
        """Go on from the ``total`` over all ranks that was saved, and where as many go on, from this rank's ``own``.

        Raises:
            ValueError: one is no total and count.
        """
        for state in (total, *([] if own is None else [own])):
            if state.shape != self.state.shape or state.dtype != self.state.dtype:
                raise ValueError(f"expected a total and a count in float64, got {tuple(state.shape)} in {state.dtype}")
        if own is None:
            own = total if self._world.is_main else torch.zeros_like(total)
        self.state = own.to(self.state.device, copy=True)

    def add(self, losses: Tensor, taken: Tensor | None) -> None:
        """``taken`` is a 0-dim bool: whether the losses count; None: they do."""
        total, count = losses.sum(), len(losses)
        self.state[0] += total if taken is None else torch.where(taken, total, 0)
        self.state[1] += count if taken is None else taken * count

    def total(self) -> Tensor:
        """Total and count over all ranks."""
        return self._world.sum(self.state, "loss")

    def take(self) -> float:
        """The mean so far, and start again; synchronises with the device."""
        total, count = self.total().tolist()
        self.state.zero_()
        return float(total / count) if count else float("nan")
