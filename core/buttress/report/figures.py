"""The figures of a report, by plotly: values on hover, legend entries that switch curves on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any, NamedTuple

import plotly.graph_objects as go

from buttress.analysis.gap import generalization_gaps
from buttress.console.tables import percent
from buttress.report.material import Method
from buttress.scoring.loss_groups import group_names
from buttress.training.curves import COLOURS

# Viridis at seven places: dark to light, so that the order shows in every kind of colour vision and in grey.
SHADES = ("#440154", "#443983", "#31688E", "#21918c", "#35b779", "#90d743", "#e3cf1b")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "pentagon", "hexagon")
# What the figures are drawn in where the reader's system is dark: those of COLOURS and of SHADES that a dark page would
# swallow, then ink, softer ink, paper, and lines.
DARK = {
    "#000000": "#FFFFFF",
    "#8007ED": "#A45CFF",
    "#682C00": "#A0522D",
    "#999933": "#F0E442",
    "#440154": "#9463B0",
    "#443983": "#7C77C9",
    "#31688E": "#5A9BC4",
    "#222222": "#E6E6E3",
    "#666666": "#A9A9A4",
    "#FFFFFF": "#1E1E1C",
    "#E6E6E6": "#3A3A37",
    "#999999": "#7C7C77",
}
"""A colour of the figures to the one in its place on a dark page; every other one is the same on both."""
# Nats: beyond it the walls of a landscape would hide its valley.
HIGHEST = 6.0

Points = dict[int, list[float]]
"""Epochs trained to one value a seed, in percent."""


class Style(NamedTuple):
    """How a method is told from others: colour, line style, symbol, width of the line in pixels."""

    colour: str
    dash: str
    symbol: str
    width: int


def style(number: int, baseline: bool = True) -> Style:
    """The style of method ``number``: ten colours and symbols for ten methods; the baseline, the first, is thick."""
    wide = 4 if baseline and number == 0 else 2
    return Style(COLOURS[number % 10], _DASHES[number % 5], _SYMBOLS[number % 10], wide)


def curves(method: Method, measure: str) -> go.Figure:
    """Accuracy over epochs: every track on the test set (solid) and the training set (dotted).

    Args:
        method: one curve a track, its mean over seeds, with a band of one standard deviation.
        measure: ``robust`` or ``clean``.
    """
    figure = empty_figure(f"{measure} accuracy, %")
    for track, colour in reversed(list(zip(method.tracks, COLOURS * 9, strict=False))):  # the live curve on top
        for split, dash in (("train", "dot"), ("test", "solid")):
            points = _points(method, track, split, measure)
            name = track if split == "test" else f"{track}, training set"
            line(figure, points, name, colour, dash, group=track, legend=split == "test")
        stars = [(row.best_epoch, 100 * getattr(row, f"{measure}_best")) for row in _rows(method, track)]
        figure.add_scatter(
            x=[x for x, _ in stars],
            y=[y for _, y in stars],
            mode="markers",
            marker={"symbol": "star", "size": 11, "color": colour, "line": {"width": 1, "color": "#FFFFFF"}},
            legendgroup=track,
            showlegend=False,
            name=f"{track}, best epoch",
            customdata=[percent(y / 100) for _, y in stars],
            hovertemplate="%{customdata}",
        )
    figure.update_layout(legend_traceorder="reversed")
    whole_ticks(figure)
    _mark_drops(figure, method.runs[0].drops)
    return figure


def side_by_side(methods: Sequence[Method]) -> go.Figure:
    """Robust test accuracy of every method; its live model shown, its ensembles a click away in the legend.

    Each method has a colour, a line style and a symbol of its own; the first, the baseline, a thick black line.
    """
    figure = empty_figure("robust test accuracy, %")
    for number, method in reversed(list(enumerate(methods))):  # the baseline on top
        look = style(number)
        for track in reversed(method.tracks):
            live = track == "live"
            name = method.label + " (baseline)" * (number == 0) if live else f"{method.label}, {track}"
            points, shown = _points(method, track, "test", "robust"), True if live else "legendonly"
            line(figure, points, name, look.colour, look.dash, group=name, visible=shown)
            marker = {"symbol": look.symbol, "size": 6}
            figure.data[-1].update(mode="lines+markers", marker=marker, line_width=look.width if live else 1)
    figure.update_layout(legend_traceorder="reversed")
    whole_ticks(figure)
    return figure


def gaps(method: Method) -> go.Figure | None:
    """Robust accuracy on the training set minus that on the test set, in points, of every track; or nothing."""
    figure = empty_figure("training minus test, points")
    for track, colour in reversed(list(zip(method.tracks, COLOURS * 9, strict=False))):
        points: Points = {}
        for run in method.runs:
            for gap in generalization_gaps([record for record in run.records if record.track == track]):
                points.setdefault(gap.epoch, []).append(100 * gap.robust)
        line(figure, points, track, colour, "solid", group=track)
    if not figure.data:
        return None
    figure.update_layout(legend_traceorder="reversed")
    whole_ticks(figure)
    _mark_drops(figure, method.runs[0].drops)
    return figure


def landscape(numbers: Mapping[str, Any]) -> go.Figure:
    """Mean loss of every LSC group along one direction."""
    figure = empty_figure("adversarial loss, nats", x="step along the direction, in norms of the filters", whole=False)
    names = group_names(numbers["edges"])
    for name, size, losses, colour in zip(names, numbers["sizes"], numbers["groups"], SHADES * 9, strict=False):
        if size:
            label = f"{name} ({size})"
            _scatter(figure, numbers["mu"], losses, label, colour, hover="%{y:.2f}")
    _scatter(figure, numbers["mu"], numbers["mean"], f"all ({numbers['n']})", "#000000", dash="dash", hover="%{y:.2f}")
    figure.update_yaxes(range=[0, HIGHEST])
    return figure


def surfaces(named: Sequence[tuple[str, Mapping[str, Any]]]) -> go.Figure:
    """Losses over the plane of two directions, all in one scene: the first shown, the others in the legend."""
    figure = go.Figure(layout={"template": "none"})
    for position, (name, numbers) in enumerate(named):
        cut = [[None if z is None else min(z, HIGHEST) for z in row] for row in numbers["loss"]]
        figure.add_surface(
            x=numbers["steps"],
            y=numbers["steps"],
            z=[list(column) for column in zip(*cut, strict=True)],  # plotly's rows run along y, ours along a = x
            name=name,
            showlegend=True,
            visible=True if position == 0 else "legendonly",
            colorscale="Viridis",
            cmin=0,
            cmax=HIGHEST,
            showscale=False,  # the axis has the same numbers
            hovertemplate="%{x:.2f}, %{y:.2f}: %{z:.2f} nats<extra>" + name.replace("%", "") + "</extra>",
        )
    small = {"size": 11}
    axis = {"tickfont": small, "nticks": 4, "gridcolor": "#E6E6E6"}
    figure.update_layout(
        {**_base(), "margin": {"l": 0, "r": 0, "t": 0, "b": 0}},
        height=500,
        scene={
            "xaxis": {**axis, "title": {"text": "direction 1", "font": small}},
            "yaxis": {**axis, "title": {"text": "direction 2", "font": small}},
            # No 0: it would lie on the label of the axis below.
            "zaxis": {
                **axis,
                "title": {"text": "loss, nats", "font": small},
                "range": [0, HIGHEST],
                "tickvals": [2, 4, 6],
            },
            "aspectmode": "manual",
            "aspectratio": {"x": 1.2, "y": 1.2, "z": 0.85},
            "camera": {"eye": {"x": 1.7, "y": 1.7, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
    )
    return figure


def histogram(numbers: Mapping[str, Any], tracks: Sequence[str]) -> go.Figure:
    """Weights of one layer, of every one of ``tracks``, on shared bins."""
    figure = empty_figure("number of weights", x=f"weight of {numbers['layer']}", whole=False)
    edges = numbers["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    for track, colour in zip(tracks, COLOURS * 9, strict=False):
        if track not in numbers["tracks"]:
            continue
        counts = [count or None for count in numbers["tracks"][track]["counts"]]  # a logarithm has no 0
        _scatter(figure, middles, counts, track, colour, shape="hvh", hover="%{y}")
    figure.update_yaxes(type="log", dtick=1)
    return figure


def loss_groups(numbers: Mapping[str, Any]) -> go.Figure:
    """Share of the training examples in each LSC group, over epochs."""
    figure = empty_figure("training examples, %")
    epochs = [row["epoch"] for row in numbers["epochs"]]
    for number, (name, colour) in enumerate(zip(numbers["groups"], SHADES * 9, strict=False)):
        figure.add_scatter(
            x=epochs,
            y=[100 * row["counts"][number] / numbers["n"] for row in numbers["epochs"]],
            customdata=[percent(row["counts"][number] / numbers["n"]) for row in numbers["epochs"]],
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


def label_noise(numbers: Mapping[str, Any], inputs: str) -> go.Figure:
    """How examples with a flipped label are predicted; ``inputs`` is ``clean`` or ``attacked``."""
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


def distance(numbers: Mapping[str, Any]) -> go.Figure:
    """Relative distance of every layer group from the last weights, over epochs."""
    figure = empty_figure("distance over norm of the last")
    epochs = [row["epoch"] for row in numbers["snapshots"]] + [numbers["last_epoch"]]
    for group, colour in zip(numbers["groups"], COLOURS * 9, strict=False):
        values = [row["to_last"][group]["relative"] for row in numbers["snapshots"]]
        _scatter(figure, epochs, [*values, 0.0], group, colour, hover="%{y:.3f}", markers=True)
    figure.update_yaxes(rangemode="tozero")
    whole_ticks(figure)
    return figure


def _points(method: Method, track: str, split: str, measure: str) -> Points:
    points: Points = {}
    for run in method.runs:
        for record in run.records:
            if record.track == track and record.split == split:
                points.setdefault(record.epoch, []).append(100 * getattr(record, measure))
    return points


def _rows(method: Method, track: str) -> list[Any]:
    return [row for run in method.runs for row in run.rows if row.track == track]


def line(
    figure: go.Figure,
    points: Points,
    name: str,
    colour: str,
    dash: str,
    *,
    group: str,
    legend: bool = True,
    visible: bool | str = True,
    hover: str = "",
    shape: str = "linear",
) -> None:
    """A mean over seeds, and around it a band of one standard deviation, where there are two seeds or more.

    ``hover``: template of what a value shows; by default a percentage.
    """
    if not points:
        return
    epochs = sorted(points)
    middle = [mean(points[epoch]) for epoch in epochs]
    spread = [stdev(points[epoch]) if len(points[epoch]) > 1 else 0.0 for epoch in epochs]
    common: dict[str, Any] = {"legendgroup": group, "visible": visible}
    if any(spread):
        figure.add_scatter(
            x=[*epochs, *reversed(epochs)],
            y=[m + s for m, s in zip(middle, spread, strict=True)]
            + [m - s for m, s in reversed(list(zip(middle, spread, strict=True)))],
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            **common,
        )
    common |= {"showlegend": legend, "shape": shape}
    if not hover:
        common["customdata"] = [percent(value / 100) for value in middle]
    _scatter(figure, epochs, middle, name, colour, dash=dash, hover=hover or "%{customdata}", **common)


def _scatter(
    figure: go.Figure,
    x: Sequence[float],
    y: Sequence[float | None],
    name: str,
    colour: str,
    *,
    hover: str,
    dash: str = "solid",
    shape: str = "linear",
    markers: bool = False,
    **options: Any,
) -> None:
    figure.add_scatter(
        x=list(x),
        y=list(y),
        name=name,
        mode="lines+markers" if markers or len(x) == 1 else "lines",  # a single point has no line
        line={"color": colour, "dash": dash, "width": 2, "shape": shape},
        marker={"size": 5},
        hovertemplate=hover,
        **options,
    )


def empty_figure(y: str, x: str = "epochs trained", whole: bool = True) -> go.Figure:
    """Empty axes; ``whole``: the ticks of x are whole numbers."""
    figure = go.Figure(layout={"template": "none"})
    figure.update_layout(_base(), height=360, hovermode="x unified")
    axis = {
        "gridcolor": "#E6E6E6",
        "zeroline": False,
        "automargin": True,
        "linecolor": "#999999",
        "ticks": "outside",
        "tickcolor": "#999999",
    }
    figure.update_xaxes(title={"text": x, "standoff": 8}, nticks=9, **axis)
    if whole:
        figure.update_xaxes(tickformat=",d")
    figure.update_yaxes(title={"text": y, "standoff": 6}, **axis)
    return figure


def _base() -> dict[str, Any]:
    return {
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#222222"},
        "margin": {"l": 52, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        # Above the plot: there it pushes the axes down by what it needs, whatever the width of the page.
        "legend": {"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "xref": "container", "x": 0},
        "autosize": True,
    }


def whole_ticks(figure: go.Figure) -> None:
    """Of few epochs each gets a tick of its own, so that none is written twice."""
    reached = [x for trace in figure.data for x in trace.x or ()]
    if reached and max(reached) < 10:
        figure.update_xaxes(tickmode="linear", tick0=0, dtick=1)


def _mark_drops(figure: go.Figure, drops: Sequence[int]) -> None:
    for drop in drops:
        figure.add_vline(
            x=drop,
            line={"color": "#999999", "dash": "dash", "width": 1},
            annotation={
                "text": "lr drop",
                "font": {"size": 11, "color": "#666666"},
                "yanchor": "bottom",
                "y": 0,
                "xshift": 3,
            },
        )


def _faint(colour: str) -> str:
    return f"{colour}1A"  # a tenth opaque
