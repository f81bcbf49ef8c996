"""Training examples by their adversarial loss, epoch by epoch: in the groups of RWP's loss stationary condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from buttress.analysis.answers import expect_consistent
from buttress.analysis.figures import SHADES, empty_figure, whole_ticks
from buttress.analysis.part import Missing, NamedAnswer, Options, Part
from buttress.analysis.pictures import figure_at, label_epochs, shades
from buttress.analysis.study import Study
from buttress.console.tables import percent
from buttress.scoring.loss_groups import EDGES, group_counts, group_names
from buttress.storage.shapes import Count, Shape, Size

if TYPE_CHECKING:
    import plotly.graph_objects as go


class GroupSizes(Shape):
    """Training examples in each group after one epoch."""

    epoch: Count
    counts: list[Count]


class Answer(Shape):
    attack: str
    source: str
    groups: list[str]
    n: Size
    epochs: Annotated[list[GroupSizes], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Answer:
        expect_consistent(all(len(row.counts) == len(self.groups) for row in self.epochs), "one count for each group")
        return self


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """Sizes of the groups over epochs: as recorded in training, else measured at saved weights."""
    recorded = [record for record in study.metrics.events("losses") if record["track"] == "live"]
    if recorded:
        rows = [{"epoch": record["epoch"], "counts": record["counts"]} for record in recorded]
        source, edges = "recorded in training (evaluation.train)", recorded[0]["edges"]
    else:
        rows, edges = _measured(study), list(EDGES)
        source = "measured at saved weights; evaluation.train=true records it at every evaluation"
    if not rows:
        raise Missing("the run has no saved weights of its live model yet")
    numbers = {
        "attack": study.attack,
        "source": source,
        "edges": edges,
        "groups": group_names(edges),
        "n": sum(rows[0]["counts"]),
        "epochs": rows,
    }
    yield NamedAnswer("loss_groups", numbers)


def _measured(study: Study) -> list[dict[str, Any]]:
    rows = []
    for snapshot in study.snapshots():
        with study.at_snapshot(snapshot):
            losses = study.losses(study.attacked(study.examples))
        rows.append({"epoch": snapshot.epoch, "counts": group_counts(losses).tolist()})
    return rows


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Share of the training examples in each group, over epochs."""
    epochs = [row["epoch"] for row in numbers["epochs"]]
    shares = [
        [100 * row["counts"][i] / numbers["n"] for row in numbers["epochs"]] for i in range(len(numbers["groups"]))
    ]
    with figure_at(path, f"training examples by adversarial loss ({numbers['attack']}), n = {numbers['n']}") as axes:
        colours = shades(len(shares))
        if len(epochs) > 1:
            axes.stackplot(epochs, shares, colors=colours, labels=[f"{name} nats" for name in numbers["groups"]])
            axes.set_xlim(epochs[0], epochs[-1])
            label_epochs(axes)
        else:
            axes.bar(numbers["groups"], [share[0] for share in shares], color=colours)
            axes.set_xlabel(f"adversarial loss after epoch {epochs[0]}, nats")
        axes.set_ylabel("training examples, %")
        if len(epochs) > 1:
            handles, labels = axes.get_legend_handles_labels()
            axes.figure.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=8)


def figure(numbers: Mapping[str, Any]) -> go.Figure:
    """Share of the training examples in each group, over epochs."""
    figure = empty_figure("training examples, %")
    epochs = [row["epoch"] for row in numbers["epochs"]]
    for number, (name, colour) in enumerate(zip(numbers["groups"], SHADES * 9, strict=False)):
        shares = [row["counts"][number] / numbers["n"] for row in numbers["epochs"]]
        figure.add_scatter(
            x=epochs,
            y=[100 * share for share in shares],
            customdata=[percent(share) for share in shares],
            name=name,
            mode="lines",
            line={"width": 0.5, "color": colour},
            fillcolor=colour,
            stackgroup="groups",
            hovertemplate="%{customdata} %",
        )
    figure.update_yaxes(range=[0, 100])
    whole_ticks(figure)
    return figure


PART = Part("loss_groups", Answer, ask, draw)
