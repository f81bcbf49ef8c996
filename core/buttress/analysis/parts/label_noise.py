"""Whether a model has learned the labels that were flipped on purpose.

Robust overfitting is largely the fit of such labels (Dong et al., "Label Noise in Adversarial Training", NeurIPS 2022,
arXiv:2110.03135): a model that resists predicts the true class of a flipped example, and a model that has overfitted
predicts the label given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from buttress.analysis.figures import empty_figure
from buttress.analysis.part import Missing, NamedAnswer, Options, Part
from buttress.analysis.pictures import figure_at
from buttress.analysis.study import Study
from buttress.console.tables import percent
from buttress.storage.shapes import Count, Shape, Size

if TYPE_CHECKING:
    import plotly.graph_objects as go


class PredictionCounts(NamedTuple):
    """Numbers of flipped examples that are predicted as the label given, as the true one, and as another class."""

    as_given: int
    as_true: int
    as_other: int


def fit_of_flipped(predicted: Tensor, given: Tensor, true: Tensor) -> PredictionCounts:
    """Fit of the examples with ``given != true``; all arguments are ``[n]`` class numbers."""
    flipped = given != true
    as_given = int((flipped & (predicted == given)).sum())
    as_true = int((flipped & (predicted == true)).sum())
    return PredictionCounts(as_given, as_true, int(flipped.sum()) - as_given - as_true)


class FlippedPredictions(Shape):
    """How examples with flipped labels are predicted by one set of weights."""

    track: str
    checkpoint: str
    inputs: Literal["clean", "attacked"]
    as_true: Count
    as_other: Count
    as_given: Count


class Answer(Shape):
    attack: str
    n: Size
    rows: list[FlippedPredictions]


def ask(study: Study, options: Options) -> Iterator[NamedAnswer]:
    """Fit of the flipped examples, clean and attacked, by best and last weights of every track."""
    true = study.data.true_labels
    flipped = study.flipped()[: len(study.examples)]
    if true is None or not len(flipped):
        raise Missing("no label noise was injected into the training set (data.label_noise)")
    given, true = study.labels(flipped), true[flipped]
    rows = []
    for track, which in study.saved:
        epoch = study.load(track, which)
        clean = study.predicted([batch.x for batch in study.batches(flipped)])
        attacked = study.predicted([x for x, _ in study.attacked(flipped)])
        for inputs, predicted in (("clean", clean), ("attacked", attacked)):
            fit = fit_of_flipped(predicted, given, true)
            rows.append({"track": track, "checkpoint": which, "epoch": epoch, "inputs": inputs, **fit._asdict()})
    yield NamedAnswer("label_noise", {"attack": study.attack, "n": len(flipped), "rows": rows})


def draw(path: Path, numbers: Mapping[str, Any]) -> None:
    """Shares of the flipped examples predicted as the label given, the true one and another, on clean inputs."""
    rows = [row for row in numbers["rows"] if row["inputs"] == "clean"]
    names = [f"{row['track']}\n{row['checkpoint']}" for row in rows]
    with figure_at(path, f"training examples with a flipped label, n = {numbers['n']}") as axes:
        left = [0.0] * len(rows)
        for key, name, colour in (
            ("as_true", "predicted as the true label", "#009E73"),
            ("as_other", "as another", "#BBBBBB"),
            ("as_given", "as the flipped label: learned", "#D55E00"),
        ):
            shares = [100 * row[key] / max(1, numbers["n"]) for row in rows]
            axes.bar(names, shares, bottom=left, color=colour, label=name, width=0.7)
            left = [low + share for low, share in zip(left, shares, strict=True)]
        axes.set_ylabel("share, %")
        axes.tick_params(axis="x", labelsize=8)
        axes.figure.legend(loc="outside upper right", ncols=3, fontsize=8)


def figure(numbers: Mapping[str, Any], inputs: str) -> go.Figure:
    """Shares of the flipped examples by their predicted class; ``inputs`` is ``clean`` or ``attacked``."""
    rows = [row for row in numbers["rows"] if row["inputs"] == inputs][::-1]  # plotly begins at the bottom
    figure = empty_figure("", x="share, %", whole=False)
    left = [0.0] * len(rows)
    for key, name, colour in (
        ("as_true", "the true label", "#009E73"),
        ("as_other", "another", "#BBBBBB"),
        ("as_given", "the flipped label: learned", "#D55E00"),
    ):
        shares = [row[key] / max(1, numbers["n"]) for row in rows]
        right = [low + 100 * share for low, share in zip(left, shares, strict=True)]
        figure.add_scatter(  # thick lines, since the page's part of plotly.js has no bars
            y=[each for row in rows for each in (f"{row['track']}, {row['checkpoint']}",) * 2 + (None,)],
            x=[each for ends in zip(left, right, strict=True) for each in (*ends, None)],
            customdata=[each for share in shares for each in (percent(share),) * 3],
            name=name,
            mode="lines",
            line={"color": colour, "width": 18},
            hovertemplate=name + ": %{customdata} %<extra></extra>",
        )
        left = right
    figure.update_layout(hovermode="closest", height=140 + 30 * len(rows), legend_traceorder="normal")
    figure.update_xaxes(range=[0, 100], dtick=20)
    figure.update_yaxes(type="category", range=[-0.5, len(rows) - 0.5])
    figure.update_layout(margin={"r": 20})  # for half of the last label
    return figure


PART = Part("label_noise", Answer, ask, draw)
