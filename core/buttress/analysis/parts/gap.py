"""The robust generalization gap: robust accuracy on the training set minus that on the test set.

Both are of the same weights, in eval mode, under the attack of the evaluation. The widely quoted running accuracy of
the training attack is another number: it is measured in train mode, and under AWP at perturbed weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress.analysis.figures import Points, add_mean, empty_figure, mark_drops, whole_ticks
from buttress.analysis.part import Missing, NamedAnswer, Options, Part
from buttress.analysis.pictures import figure_at, label_epochs
from buttress.analysis.study import Study
from buttress.storage.shapes import Shape
from buttress.training.curves import COLOURS
from buttress.training.selection import Record

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Gap:
    """Accuracies in [0, 1] of one track after one epoch (from 1), and how far training is ahead of the test."""

    epoch: int
    track: str
    clean_train: float
    clean_test: float
    robust_train: float
    robust_test: float

    @property
    def clean(self) -> float:
        return self.clean_train - self.clean_test

    @property
    def robust(self) -> float:
        return self.robust_train - self.robust_test


def generalization_gaps(records: Sequence[Record]) -> list[Gap]:
    """The gap wherever a track was scored on both splits, by track, then by epoch."""
    scores = {(record.track, record.epoch, record.split): record for record in records}
    gaps = []
    for track in dict.fromkeys(record.track for record in records):
        for epoch in sorted({record.epoch for record in records if record.track == track}):
            train, test = (scores.get((track, epoch, split)) for split in ("train", "test"))
            if train is not None and test is not None:
                gaps.append(Gap(epoch, track, train.clean, test.clean, train.robust, test.robust))
    return gaps


def best_difference(gaps: Sequence[Gap]) -> float:
    """Best robust accuracy on the training set minus the best on the test set, each at its own epoch.

    Source: Yan, Xu, Zhang, Li, Xie, "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss
    Landscape" (AT-AMP), figure 5.
    """
    return max(gap.robust_train for gap in gaps) - max(gap.robust_test for gap in gaps)


class Answer(Shape):
    attack: str
    tracks: dict[str, Any]


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """The robust generalization gap over epochs, of every track."""
    gaps = generalization_gaps(study.records)
    if not gaps:
        raise Missing("the run was not scored on its training set; train with evaluation.train=true")
    tracks = {}
    for track in dict.fromkeys(gap.track for gap in gaps):
        own = [gap for gap in gaps if gap.track == track]
        rows = [{**asdict(each), "clean": each.clean, "robust": each.robust} for each in own]
        tracks[track] = {"epochs": rows, "best_train_minus_best_test": best_difference(own)}
    sizes = {record.split: record.n for record in study.records}
    yield NamedAnswer("gap", {"attack": study.attack, "n": sizes, "tracks": tracks})


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Robust accuracy on training set and test set over epochs, and their difference, of every track."""
    with figure_at(path, "robust generalization gap") as axes:
        for (track, own), colour in zip(numbers["tracks"].items(), COLOURS * 9, strict=False):
            epochs = [row["epoch"] for row in own["epochs"]]
            for key, line, label in (("robust_train", ":", None), ("robust_test", "--", None), ("robust", "-", track)):
                values = [100 * row[key] for row in own["epochs"]]
                # The live curve on top: a track that has not begun coincides with it.
                order = 3 if track == "live" else 2
                axes.plot(epochs, values, color=colour, linestyle=line, linewidth=1.8, label=label, zorder=order)
        for line, label in ((":", "training set"), ("--", "test set"), ("-", "difference")):
            axes.plot([], [], color="#777777", linestyle=line, label=label)
        label_epochs(axes)
        axes.set_ylabel(f"robust accuracy ({numbers['attack']}), %")
        axes.legend(fontsize=8, ncols=2)


def figure(tracks: Mapping[str, Sequence[Gap]], drops: Sequence[float]) -> go.Figure | None:
    """Robust accuracy on the training set minus that on the test set, in points; None where there is no gap.

    Args:
        tracks: track to its gaps, those of several seeds together.
        drops: times, in epochs, at which the learning rate drops.
    """
    figure = empty_figure("training minus test, points")
    for (track, gaps), colour in reversed(list(zip(tracks.items(), COLOURS * 9, strict=False))):
        points: Points = {}
        for gap in gaps:
            points.setdefault(gap.epoch, []).append(100 * gap.robust)
        add_mean(figure, points, track, colour, "solid", group=track)
    if not figure.data:
        return None
    figure.update_layout(legend_traceorder="reversed")
    whole_ticks(figure)
    mark_drops(figure, drops)
    return figure


PART = Part("gap", Answer, ask, draw)
