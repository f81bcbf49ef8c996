"""Accuracy class by class: robust accuracy hides that some classes are lost long before others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from buttress.analysis.answers import expect_consistent
from buttress.analysis.figures import empty_figure
from buttress.analysis.part import Missing, NamedAnswer, Options, Part
from buttress.analysis.pictures import figure_at
from buttress.analysis.study import Study
from buttress.console.tables import percent
from buttress.storage.shapes import Count, Epoch, Shape, Size
from buttress.training.curves import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Largest number of classes that a figure or a table shows; the JSON file has all.
MOST_SHOWN = 30


def right_by_class(predicted: Tensor, labels: Tensor, num_classes: int) -> list[int]:
    """Number of examples of each of K classes that are predicted correctly, from ``[n]`` predictions and labels."""
    return torch.bincount(labels[predicted == labels], minlength=num_classes).tolist()


def hardest(numbers: Mapping[str, Any]) -> list[int]:
    """The classes to show, in their order: all, or of many those with the lowest live accuracy under attack."""
    sizes, live = numbers["sizes"], numbers["rows"][0]["attacked"]
    there = [number for number, size in enumerate(sizes) if size]
    return sorted(sorted(there, key=lambda number: live[number] / sizes[number])[:MOST_SHOWN])


class CorrectCounts(Shape):
    """Number of test examples of each class that one set of weights gets right."""

    track: str
    checkpoint: str
    epoch: Epoch
    clean: list[Count]
    attacked: list[Count]


class Answer(Shape):
    attack: str
    n: Size
    sizes: list[Count]
    rows: Annotated[list[CorrectCounts], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        sizes = self.sizes
        expect_consistent(any(sizes), "a class with examples")
        for right in (counts for row in self.rows for counts in (row.clean, row.attacked)):
            fits = len(right) == len(sizes) and all(part <= whole for part, whole in zip(right, sizes, strict=True))
            expect_consistent(fits, "for each class at most as many right as there are")
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """Test accuracy of every class, clean and attacked, by best and last weights of every track."""
    if not study.saved:
        raise Missing("the run has no saved weights yet")
    positions, num_classes = study.test_examples, study.data.num_classes
    labels = torch.cat([batch.y for batch in study.batches(positions, "test")]).cpu()
    rows = []
    for track, which in study.saved:
        epoch = study.load(track, which)
        row: dict[str, Any] = {"track": track, "checkpoint": which, "epoch": epoch}
        for inputs, batches in (
            ("clean", [batch.x for batch in study.batches(positions, "test")]),
            ("attacked", [x for x, _ in study.attacked(positions, "test")]),
        ):
            row[inputs] = right_by_class(study.predicted(batches), labels, num_classes)
        rows.append(row)
    sizes = torch.bincount(labels, minlength=num_classes)
    numbers = {"attack": study.attack, "split": "test", "n": len(positions), "sizes": sizes, "rows": rows}
    yield NamedAnswer("classes", numbers)


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Accuracy of every class under attack, at the best and the last weights of every track."""
    shown = hardest(numbers)
    with figure_at(path, f"test accuracy by class under {numbers['attack']}, n = {numbers['n']}") as axes:
        tracks = list(dict.fromkeys(row["track"] for row in numbers["rows"]))
        for row in numbers["rows"]:
            colour, best = COLOURS[tracks.index(row["track"]) % len(COLOURS)], row["checkpoint"] == "best"
            shares = [100 * row["attacked"][number] / numbers["sizes"][number] for number in shown]
            label, marker = f"{row['track']}, {row['checkpoint']}", "*" if best else "o"
            axes.plot(range(len(shown)), shares, marker, color=colour, markersize=10 if best else 6, label=label)
        axes.set_xticks(range(len(shown)), [str(number) for number in shown])
        axes.set_xlabel("class")
        axes.set_ylabel("accuracy under attack, %")
        axes.set_ylim(0, 100)
        axes.legend(fontsize=8)


def figure(numbers: Mapping[str, Any], checkpoint: str, shown: Sequence[int]) -> go.Figure:
    """Test accuracy of every class in ``shown``, clean and attacked, at one checkpoint of every track."""
    figure = empty_figure("class", x="test accuracy, %", whole=False)
    rows = [row for row in numbers["rows"] if row["checkpoint"] == checkpoint]
    for position, (row, colour) in enumerate(zip(rows, COLOURS * 9, strict=False)):
        height = 0.6 * (position + 0.5) / len(rows) - 0.3  # of the track within its class: no dot hides another
        for inputs, symbol in (("clean", "circle-open"), ("attacked", "circle")):
            shares = [row[inputs][number] / max(1, numbers["sizes"][number]) for number in shown]
            figure.add_scatter(
                x=[100 * share for share in shares],
                y=[place + height for place in range(len(shown))],
                customdata=[[number, percent(share)] for number, share in zip(shown, shares, strict=True)],
                name=f"{row['track']}, {inputs}",
                mode="markers",
                marker={"symbol": symbol, "size": 8, "color": colour, "line": {"width": 2, "color": colour}},
                hovertemplate="class %{customdata[0]}: %{customdata[1]} %",
            )
    figure.update_layout(hovermode="closest", height=130 + (16 + 6 * len(rows)) * len(shown))
    figure.update_xaxes(range=[-2, 102], dtick=20)
    names = [str(number) for number in shown]
    figure.update_yaxes(tickvals=list(range(len(shown))), ticktext=names, range=[len(shown) - 0.5, -0.5])
    return figure


PART = Part("classes", Answer, ask, draw)
