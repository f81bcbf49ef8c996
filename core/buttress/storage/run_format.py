"""Formats of run folders, the oldest to the newest, and the epochs that the oldest counts from 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, RunFolderError
from buttress.storage.reading import read_json

FORMAT = 3
"""Version of the set of files in a run folder. Checkpoints and configs have formats of their own.

1: as 2, but metrics counted epochs from 0. Such a run goes on as it began; ``training.records`` counts from 1.
2: as 3, but runs had no id, and the keys of the manifest were sorted.
"""


def expect_known_format(path: Path) -> None:
    """Refuse the manifest ``path`` of a later version.

    Raises:
        RunFolderError: this version cannot read the folder.
    """
    try:
        written = read_json(path)["format"]
    except (CheckpointError, KeyError, TypeError):  # damaged, or from before there were formats: format 1
        return
    if not (type(written) is int and 1 <= written <= FORMAT):
        raise RunFolderError(
            f"{path}: the run folder has format {written!r}, this version of buttress reads 1 to {FORMAT}; use the "
            "version that the manifest names",
            path=path,
        )


def first_epoch(path: Path) -> int:
    """Number that the metrics of the run folder ``path`` give to the first epoch: 0 in format 1, and 1 since then."""
    try:
        manifest = read_json(path / "manifest.json")
    except CheckpointError:  # a manifest that cannot be read counts as one of the current format
        return 1
    return 0 if isinstance(manifest, dict) and manifest.get("format", 1) == 1 else 1


def count_later(record: Mapping[str, Any], by: int) -> dict[str, Any]:
    """Copy of ``record`` in which every epoch number is larger by ``by``."""
    return {key: value + by if key in ("epoch", "healthy_epoch") else value for key, value in record.items()}
