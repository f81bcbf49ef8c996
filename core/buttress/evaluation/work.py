"""The work of one evaluation: its name, by which processes share it, and the files with its result."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buttress.data import Split
from buttress.evaluation.result_file import write_evaluation
from buttress.scoring.cells import NOT_ATTACKED, RIGHT
from buttress.scoring.worst_case import Verdicts, share_of
from buttress.storage.files import write_with
from buttress.training.manifest import hardware

# Facts that no verdict depends on: machines that share the work may have the run under other paths.
_PATHS = ("run", "weights")


@dataclass(frozen=True)
class EvaluationWork:
    """The work of one evaluation.

    Args:
        facts: JSON-able facts about weights, examples, threat model and settings, for the result.
        settings: name of each attack to its settings, in order.
        data: the split.
        index: ``[n]`` positions in the split.
        device: kind of device that attacks run on.
    """

    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    data: Split
    index: Tensor
    device: str

    @cached_property
    def name(self) -> str:
        """Name that is equal only where the same verdicts are to be found, in 16 hexadecimal digits."""
        identity = {
            **{key: value for key, value in self.facts.items() if key not in _PATHS},
            "device": self.device,
            "attacks": self.settings,
            "order": list(self.settings),
            "hardware": hardware()["packages"],
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
        digest.update(self.index.numpy().tobytes())
        for batch in self.data.batches(self.index, self.facts["batch_size"]):
            digest.update(batch.x.contiguous().cpu().numpy().tobytes())
            digest.update(batch.y.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def write(self, folder: Path, verdicts: Verdicts) -> dict[str, Any]:
        """Write the result and the verdicts into two files; returns the content of the JSON file.

        Raises:
            StorageError: the disk is full or refuses.
        """
        stem = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        samples, path = folder / f"{stem}.npz", folder / f"{stem}.json"
        labels = torch.cat([batch.y for batch in self.data.batches(self.index, 1000)]).cpu().numpy()

        def save(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    index=self.index.numpy(),
                    label=labels,
                    attacks=np.array(verdicts.names),
                    attacked=verdicts.table != NOT_ATTACKED,
                    correct=verdicts.table == RIGHT,
                    worst=verdicts.worst,
                    seed=self.facts["seed"],
                )

        samples_sha256 = write_with(samples, save)
        result = {
            **self.facts,
            "work": self.name,
            "attacks": [{**row, "settings": self.settings.get(row["attack"], {})} for row in verdicts.rows()],
            "worst": share_of(verdicts.worst),
            "command": sys.argv,
            **hardware(),
            "samples": str(samples),
            "samples_sha256": samples_sha256,
            "file": str(path),
        }
        write_evaluation(path, result)
        return result
