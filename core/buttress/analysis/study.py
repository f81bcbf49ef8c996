"""A run that is opened for an analysis: its data, its model, its attack, its saved weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from buttress.analysis.directions import losses_at
from buttress.analysis.snapshots import Snapshot, live_snapshots
from buttress.config.file import load_config
from buttress.data.order import fixed_order
from buttress.nn.loading import fit_weights, load_weights
from buttress.nn.modes import Modes, parameters_of
from buttress.scoring.attacks import attack_name
from buttress.storage.reading import read_facts
from buttress.storage.seals import after_epoch
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.records import read_metrics
from buttress.training.same_data import expect_same_data
from buttress.training.selection import Record
from buttress.types import Batch, Track


class Study:
    """An opened run, with all that the parts of an analysis need.

    Args:
        path: run folder.
        checkpoint: weights of each track that are examined, ``best`` or ``last``.
        examples: largest number of training examples that attacks and landscapes use, and of test examples that are
            counted by class; they are drawn once for all parts.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        RunFolderError, ConfigError, DataError, PluginError, ModelError: the run cannot be opened.
        CheckpointError: its metrics are damaged or edited.
    """

    def __init__(self, path: Path, checkpoint: str = "last", examples: int = 500, *, trust: bool = False) -> None:
        self.folder, self.checkpoint = existing_folder(path), checkpoint
        self.file = load_config(self.folder.config, trust=trust)
        self.file.own.expect_trusted()
        self.data, settings = load_data(self.file)
        expect_same_data(self.folder, self.data.fingerprint)
        with tempfile.TemporaryDirectory() as scratch:
            assembly = assemble(self.file, self.data, settings, Path(scratch))
        self.engine, self._evaluator = assembly.engine, assembly.evaluator
        self.threat = self._evaluator.threat
        self.model: nn.Module = self.engine.model
        self.attack = attack_name(self._evaluator.attack)
        self.metrics = read_metrics(self.folder)
        self.order = fixed_order(len(self.data.train), self.file.config.seed)
        self.examples = self.order[:examples]
        self.test_examples = fixed_order(len(self.data.test), self.file.config.seed)[:examples]

    @property
    def precision(self) -> str:
        """The precision of all forwards of an analysis: that of evaluations."""
        return self.engine.at_work.precision.score

    @property
    def drawn(self) -> str:
        """A phrase that says which examples the parts attack."""
        n, total, seed = len(self.examples), len(self.data.train), self.file.config.seed
        return f"{n} of {total} training examples, the first of the order that the run's seed {seed} gives them"

    @property
    def records(self) -> list[Record]:
        """Every evaluation of the run."""
        return self.metrics.evaluations

    @property
    def tracks(self) -> list[str]:
        """Tracks that have weights of the chosen checkpoint."""
        return [track for track in self.every_track if self.has(track, self.checkpoint)]

    @property
    def every_track(self) -> list[str]:
        """Tracks in the order of the run's tables: the live model first."""
        return list(dict.fromkeys(record.track for record in self.records))

    @property
    def saved(self) -> list[tuple[str, str]]:
        """Track and checkpoint of all saved weights."""
        return [(track, which) for track in self.every_track for which in ("best", "last") if self.has(track, which)]

    def has(self, track: str, checkpoint: str) -> bool:
        """Whether a track's weights have been saved."""
        return self.folder.weights_file(checkpoint, track).is_file()

    def parameters(self, track: str) -> dict[str, Tensor]:
        """A copy of a track's saved parameters."""
        self.load(track)
        return {name: weight.detach().clone() for name, weight in parameters_of(self.model).items()}

    def load(self, track: str, checkpoint: str | None = None) -> int:
        """Put a track's saved weights into the model; returns the epoch (from 1) after which they were saved.

        Raises:
            CheckpointError: the run does not have these weights.
        """
        path = self.folder.saved_weights(checkpoint or self.checkpoint, track)
        load_weights(self.model, path)
        return after_epoch(read_facts(path))

    def snapshots(self) -> list[Snapshot]:
        """Saved weights of the live model, in the order of epochs."""
        return live_snapshots(self.folder, parameters_of(self.model))

    @contextmanager
    def at_snapshot(self, snapshot: Snapshot) -> Iterator[None]:
        """Put a snapshot into the model; where it has parameters only, batch norm is re-estimated."""
        weights = snapshot.read(parameters_of(self.model))
        if snapshot.complete:
            fit_weights(self.model, weights, str(snapshot.path))
            yield
            return
        with self.engine.track(Track(str(snapshot.path), weights)):
            yield

    def batches(self, positions: Tensor, split: str = "train") -> Iterator[Batch]:
        """Batches of the examples at ``positions [n]`` of a split, in the batch size of the evaluation."""
        return self.data.splits()[split].batches(positions, self.file.config.evaluation.batch_size)

    def attacked(self, positions: Tensor, split: str = "train") -> list[tuple[Tensor, Tensor]]:
        """Batches of inputs and labels, attacked as in evaluation at the weights that the model holds."""
        return [
            (self._evaluator.attacked(batch, number).x, batch.y)
            for number, batch in enumerate(self.batches(positions, split))
        ]

    def labels(self, positions: Tensor) -> Tensor:
        """``[n]`` labels of training examples as given, on the CPU."""
        return torch.cat([batch.y for batch in self.batches(positions)]).cpu()

    def flipped(self) -> Tensor:
        """``[n]`` positions of the training examples whose label was flipped on purpose, in a fixed random order."""
        true = self.data.true_labels
        return self.order[:0] if true is None else self.order[self.labels(self.order) != true[self.order]]

    def losses(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """``[n]`` losses in nats of batches of inputs and labels, at the weights that the model holds, on the CPU."""
        return losses_at(self.model, [], [[]], lambda: inputs)[0]

    def predicted(self, inputs: Sequence[Tensor]) -> Tensor:
        """``[n]`` classes that the model predicts for batches of inputs, on the CPU."""
        with torch.no_grad(), Modes(self.model).evaluating():
            return torch.cat([self.model(x).argmax(1) for x in inputs]).cpu()
