"""The owner of a checkpoint, its run and that run's config: another run refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError
from buttress.storage.files import storage_errors
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.training.manifest import read_manifest


class ForeignCheckpointError(CheckpointError):
    """A checkpoint that is whole, and of another run: never passed over, for then it would be removed as superseded."""


@dataclass(frozen=True)
class Owner:
    """The run that a folder's checkpoints belong to.

    Args:
        run: id of the run; None for a run of an older version, which has none.
        config_sha256: sha256 of its ``config.yaml``.
        is_known: whether the id is known; False where the manifest is damaged.
    """

    run: str | None
    config_sha256: str
    is_known: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"run": self.run, "config_sha256": self.config_sha256}

    def accept(self, path: Path, body: Mapping[str, Any]) -> Owner:
        """The owner of the checkpoint ``path``, whose JSON is ``body``: this run, with its id where that was not known.

        Raises:
            ForeignCheckpointError: it belongs to another run, or to this one under another config.
        """
        run, config = body.get("run"), body.get("config_sha256", self.config_sha256)
        cure = f"{path.parent} must hold the checkpoints of its own run alone: move this one to where it came from"
        if self.is_known and run != self.run:
            raise ForeignCheckpointError(
                f"{path} belongs to another run: expected id {self.run}, got {run}; {cure}", path=path
            )
        if config != self.config_sha256:
            raise ForeignCheckpointError(
                f"{path} was written under another config.yaml: expected sha256 {self.config_sha256[:12]}, got "
                f"{str(config)[:12]}; {cure}",
                path=path,
            )
        return self if self.is_known else replace(self, run=run, is_known=True)


def owner_of(folder: RunFolder) -> Owner:
    """The owner of the checkpoints of a run folder.

    Raises:
        StorageError: its config cannot be read.
    """
    with storage_errors(folder.config):
        config = file_sha256(folder.config)
    try:
        return Owner(read_manifest(folder.manifest).id, config)
    except CheckpointError:  # a damaged manifest has been named before
        return Owner(None, config, is_known=False)
