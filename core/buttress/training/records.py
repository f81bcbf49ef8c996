"""Read the records of a run's ``metrics.jsonl``, and mark those that no other file of the run vouches for.

``summary.json`` and every checkpoint know how many bytes the file had, and their sha256. Records after those are of a
run at work, or of one that was killed: nobody vouches for them yet, and whoever quotes them says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from buttress.errors import CheckpointError, extended
from buttress.storage.reading import parse_json
from buttress.storage.regular_file import read_regular_file
from buttress.storage.run_folder import RunFolder
from buttress.storage.run_format import count_later, first_epoch
from buttress.storage.shapes import Count, Epoch, Number, Shape, Share, Size, expect_shape
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import metrics_of
from buttress.training.selection import Record, evaluation_records
from buttress.training.summary_file import read_summary

NOT_YET = "not verified yet (newer than the run's last checkpoint)"
"""Mark of a number that is quoted from the records of a run at work, or of one that was killed."""
UNVOUCHED = "not verified (no other file of the run knows its metrics)"
"""Mark of a number where neither a summary nor a checkpoint knows the metrics."""


class _Evaluation(Shape):
    event: Literal["evaluation"]
    epoch: Epoch
    track: str
    split: str
    clean: Share
    robust: Share
    n: Size


class _Epoch(Shape):
    event: Literal["epoch"]
    epoch: Epoch
    loss: float  # of a run that has diverged, NaN
    lr: Number


class _Losses(Shape):
    event: Literal["losses"]
    epoch: Epoch
    track: str
    edges: Annotated[list[Number], Field(min_length=2)]
    counts: list[Count]


class _Counted(Shape):
    """The keys that a run of format 1 counts from 0."""

    epoch: int = 0
    healthy_epoch: int = 0


_COUNTED = TypeAdapter(_Counted)
_KINDS: dict[object, TypeAdapter[Any]] = {
    "evaluation": TypeAdapter(_Evaluation),
    "epoch": TypeAdapter(_Epoch),
    "losses": TypeAdapter(_Losses),
}
_ANY = TypeAdapter(dict[str, Any])
_EVENT = TypeAdapter(str)


class Voucher(NamedTuple):
    """Size and sha256 of the metrics, as another file of the run records them."""

    by: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Metrics:
    """The records of a run.

    Args:
        records: all records, epochs from 1, without a last line that a crash has cut short.
        verified: number of records, from the first on, that the run vouches for.
        lines: texts of the records, as they are written.
        unvouched: whether no file of the run knows its metrics, though it has finished.
    """

    records: list[dict[str, Any]]
    verified: int
    lines: list[str]
    unvouched: bool = False

    def mark_of(self, number: int) -> str:
        """The mark of a record (its position, from 0) for its reader; empty where it is verified."""
        if number < self.verified:
            return ""
        return UNVOUCHED if self.unvouched else NOT_YET

    @property
    def evaluations(self) -> list[Record]:
        """The run's own evaluations."""
        return evaluation_records(self.records)

    @property
    def unverified(self) -> list[Record]:
        """The evaluations that nobody vouches for."""
        return evaluation_records(self.records[self.verified :])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The records of one kind."""
        return [record for record in self.records if record["event"] == name]


def read_metrics(folder: RunFolder) -> Metrics:
    """Read the records of a run, and compare them with its summary or its newest checkpoint.

    Raises:
        CheckpointError: missing, damaged or edited; says what to do.
    """
    path, voucher = folder.metrics, _voucher(folder)
    try:
        content = read_regular_file(path)
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}; {_cure(folder)}", path=path) from None
    size = voucher.size if voucher else 0
    if voucher and hashlib.sha256(content[:size]).hexdigest() != voucher.sha256:
        raise CheckpointError(
            f"{path} is damaged or edited: the sha256 of its first {size:,} bytes is not the one that "
            f"{voucher.by.name} knows; {_cure(folder)}",
            path=path,
        )
    lines = content.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    try:
        records = _records(folder, whole)
    except CheckpointError as problem:
        raise extended(problem, "; put the file back as the run wrote it") from None
    texts = [line.decode().rstrip("\n") for line in whole]
    return Metrics(records, content[:size].count(b"\n"), texts, voucher is None and folder.summary.exists())


def _records(folder: RunFolder, lines: list[bytes]) -> list[dict[str, Any]]:
    path = folder.metrics
    records = list(_parsed(path, lines))
    if later := 1 - first_epoch(folder.path):
        for number, record in enumerate(records, 1):
            expect_shape(f"{path}:{number}", record, _COUNTED)
        records = [count_later(record, later) for record in records]
    for number, record in enumerate(records, 1):
        if shape := _KINDS.get(record["event"]):
            expect_shape(f"{path}:{number}", record, shape)
    return records


def _cure(folder: RunFolder) -> str:
    return f"put it back, or let buttress resume {folder.path} write the evaluations anew"


def _parsed(path: Path, lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
        except (ValueError, RecursionError) as problem:
            raise CheckpointError(f"{path}:{number} is damaged: {problem or 'nested too deeply'}", path=path) from None
        expect_shape(f"{path}:{number}", record, _ANY)
        expect_shape(f"{path}:{number}: event", record.get("event"), _EVENT)
        yield record


def _voucher(folder: RunFolder) -> Voucher | None:
    """The voucher in the summary; without one there, that of the newest readable checkpoint; else None."""
    if folder.summary.exists():
        try:
            summary = read_summary(folder.summary).body
            if summary.get("metrics_sha256"):
                return Voucher(folder.summary, summary["metrics_bytes"] or 0, summary["metrics_sha256"])
        except CheckpointError:
            pass  # damaged: its readers get the error, and a checkpoint vouches for the metrics, too
    for path in list_checkpoints(folder.checkpoints):
        try:
            recorded = metrics_of(path)
        except CheckpointError:
            continue
        return Voucher(path, *recorded) if recorded else None
    return None
