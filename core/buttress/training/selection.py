"""Choose the best epoch, and compute best, last and their difference, the measure of robust overfitting.

The best epoch is that of the highest robust accuracy on the *validation* split (the first of equals); clean and robust
accuracy are then reported on the test split at that same epoch. ``by="test"`` is the papers' protocol: best is then a
maximum over test evaluations, and biased upward.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Record:
    """One evaluation of one track on one split, after epoch ``epoch`` (from 1); accuracies in [0, 1]."""

    epoch: int
    track: str
    split: str
    clean: float
    robust: float
    n: int


def evaluation_records(metrics: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The evaluations among the records of a ``metrics.jsonl``."""
    names = [field.name for field in fields(Record)]
    return [Record(**{name: line[name] for name in names}) for line in metrics if line["event"] == "evaluation"]


@dataclass(frozen=True)
class TrackSummary:
    """A track's line in the table: its best epoch (from 1), accuracies in [0, 1] on the test split, best minus last as
    ``diff``.
    """

    track: str
    best_epoch: int
    clean_best: float
    clean_last: float
    robust_best: float
    robust_last: float
    n: int

    @property
    def clean_diff(self) -> float:
        return self.clean_best - self.clean_last

    @property
    def robust_diff(self) -> float:
        return self.robust_best - self.robust_last

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "clean_diff": self.clean_diff, "robust_diff": self.robust_diff}


def best_epoch(records: Iterable[Record], track: str, by: str) -> int:
    """The epoch (from 1) of the highest robust accuracy of ``track`` on split ``by``; the first of equals."""
    return max((r for r in records if r.track == track and r.split == by), key=lambda r: r.robust).epoch


def fully_scored(records: Iterable[Record], by: str) -> list[Record]:
    """The records of those tracks and epochs that were scored on split ``by`` and on the test split, both: not those of
    an evaluation that was cut short.
    """
    records = list(records)
    places: dict[tuple[str, int], set[str]] = {}
    for each in records:
        places.setdefault((each.track, each.epoch), set()).add(each.split)
    return [each for each in records if {by, "test"} <= places[each.track, each.epoch]]


def summarize(records: Sequence[Record], by: str) -> list[TrackSummary]:
    """One row a track, in the order in which tracks appear."""
    rows = []
    for track in dict.fromkeys(record.track for record in records):
        test = {record.epoch: record for record in records if record.track == track and record.split == "test"}
        best, last = best_epoch(records, track, by), max(test)
        rows.append(
            TrackSummary(
                track=track,
                best_epoch=best,
                clean_best=test[best].clean,
                clean_last=test[last].clean,
                robust_best=test[best].robust,
                robust_last=test[last].robust,
                n=test[last].n,
            )
        )
    return rows
