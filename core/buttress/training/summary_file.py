"""Write and read the ``summary.json`` of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from buttress.storage.results import Content, read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Count, Number, Shape, Share, Size


class TrackRow(Shape):
    """Best, last and diff of one track."""

    track: str
    best_epoch: Count  # runs of format 1 count from 0
    clean_best: Share
    clean_last: Share
    clean_diff: Number
    robust_best: Share
    robust_last: Share
    robust_diff: Number
    n: Size


class Summary(Shape):
    """The content of the file."""

    best_by: Literal["validation", "test"]
    seed: int
    precision: dict[str, str] = Field(default_factory=dict)  # older versions wrote none: float32
    data: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rollbacks: Count = 0
    metrics_bytes: Count | None = None  # older versions left them to the checkpoints
    metrics_sha256: str | None = None
    tracks: Annotated[list[TrackRow], Field(min_length=1)]


_SUMMARY = TypeAdapter(Summary)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, sealed.

    Raises:
        StorageError: the disk is full or refuses.
    """
    write_sealed(path, summary)


def read_summary(path: Path) -> Content:
    """Read the summary, and check its seal (which every version has written) and its shape.

    Raises:
        CheckpointError: missing, damaged, or no summary.
    """
    return read_object(path, _SUMMARY, sealed=True)
