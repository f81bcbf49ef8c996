"""The weights that a run kept, in their model, with what is known about them: what audits and exports start from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from buttress.build import assemble, load_data
from buttress.config import ConfigFile, load_config
from buttress.data import Data
from buttress.files import read_facts, read_json
from buttress.models import load_weights
from buttress.run_folder import RunFolder, existing_folder, read_metrics
from buttress.threat import ThreatModel


@dataclass(frozen=True)
class SavedRun:
    """One set of weights of a run.

    Args:
        folder: of the run.
        file: its config.
        data: its splits, on the device.
        model: with the weights in it.
        threat: the threat model that it was trained for.
        track: ``live`` or an ensemble's name.
        checkpoint: ``best`` or ``last``.
        epoch: 0-based, at whose end the weights were kept.
    """

    folder: RunFolder
    file: ConfigFile
    data: Data
    model: nn.Module
    threat: ThreatModel
    track: str
    checkpoint: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.track} weights, {self.checkpoint} (epoch {self.epoch + 1})"

    def results(self) -> list[dict[str, Any]]:
        """What ``buttress evaluate`` found for these weights on the test split, the newest last.

        Each is a row with ``attack``, ``accuracy``, ``low``, ``high`` and ``n``, and the ``seed`` of the evaluation.
        With ``attacked`` below n, the accuracy is that of the worst case over the attack and those before it.
        """
        found = []
        wanted = {"track": self.track, "checkpoint": self.checkpoint, "epoch": self.epoch, "split": "test"}
        for path in sorted(self.folder.eval.glob("*.json")):
            result = read_json(path)
            if isinstance(result, dict) and wanted.items() <= result.items():
                found += [{"seed": result["seed"], **row} for row in result["attacks"]]
        return found

    def own_result(self) -> dict[str, Any] | None:
        """The run's own evaluation of these weights on the test split: ``clean``, ``robust``, ``n``."""
        wanted = {"event": "evaluation", "track": self.track, "split": "test", "epoch": self.epoch}
        records = read_metrics(self.folder.metrics)
        return next((record for record in records if wanted.items() <= record.items()), None)


def load_run(path: Path, track: str = "live", checkpoint: str = "best") -> SavedRun:
    """A run's weights, in its model, beside its data.

    Raises:
        RunFolderError, CheckpointError, ConfigError, PluginError, DataError: what was asked for is not there, or does
            not load any more.
    """
    folder = existing_folder(path)
    file = load_config(folder.config)
    weights = folder.saved_weights(checkpoint, track)
    data, settings = load_data(file)
    with tempfile.TemporaryDirectory() as scratch:
        engine = assemble(file, data, settings, Path(scratch)).engine
    load_weights(engine.model, weights)
    epoch = int(read_facts(weights)["epoch"])
    return SavedRun(folder, file, data, engine.model, engine.threat, track, checkpoint, epoch)
