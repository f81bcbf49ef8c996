"""The figures of a report about accuracies over epochs: values on hover, a legend that switches curves on and off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from buttress.analysis.figures import Points, add_mean, empty_figure, mark_drops, whole_ticks
from buttress.analysis.parts import gap
from buttress.console.tables import percent
from buttress.report.material import RunsOfConfig
from buttress.training.curves import COLOURS

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "pentagon", "hexagon")
# Colours of the figures where the reader's system is dark: first the ones of COLOURS and SHADES that a dark page would
# swallow; then ink, softer ink, paper, and lines.
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
"""A colour of the figures to its replacement on a dark page; all other colours are the same on both."""


class Style(NamedTuple):
    """The look of a method: colour, line style, symbol, width of the line in pixels."""

    colour: str
    dash: str
    symbol: str
    width: int


def style(number: int, baseline: bool = True) -> Style:
    """The style of method ``number``: ten colours and symbols for ten methods; the baseline, the first, is thick."""
    wide = 4 if baseline and number == 0 else 2
    return Style(COLOURS[number % 10], _DASHES[number % 5], _SYMBOLS[number % 10], wide)


def curves(method: RunsOfConfig, measure: str) -> go.Figure:
    """Figure of accuracy over epochs: each track has a solid line for the test set and a dotted one for training.

    Args:
        method: method to show. Each line is the mean over its seeds, inside a band of one standard deviation.
        measure: ``robust`` or ``clean``.
    """
    figure = empty_figure(f"{measure} accuracy, %")
    for track, colour in reversed(list(zip(method.tracks, COLOURS * 9, strict=False))):  # the live curve on top
        for split, dash in (("train", "dot"), ("test", "solid")):
            points = _points(method, track, split, measure)
            name = track if split == "test" else f"{track}, training set"
            add_mean(figure, points, name, colour, dash, group=track, legend=split == "test")
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
    mark_drops(figure, method.runs[0].drops)
    return figure


def side_by_side(methods: Sequence[RunsOfConfig]) -> go.Figure:
    """Robust test accuracy of every method: live models are shown, ensembles are a click away in the legend.

    Each method has a colour, a line style and a symbol of its own; the first is the baseline, a thick black line.
    """
    figure = empty_figure("robust test accuracy, %")
    for number, method in reversed(list(enumerate(methods))):  # the baseline on top
        look = style(number)
        for track in reversed(method.tracks):
            live = track == "live"
            name = method.label + " (baseline)" * (number == 0) if live else f"{method.label}, {track}"
            points, shown = _points(method, track, "test", "robust"), True if live else "legendonly"
            add_mean(figure, points, name, look.colour, look.dash, group=name, visible=shown)
            marker = {"symbol": look.symbol, "size": 6}
            figure.data[-1].update(mode="lines+markers", marker=marker, line_width=look.width if live else 1)
    figure.update_layout(legend_traceorder="reversed")
    whole_ticks(figure)
    return figure


def gaps(method: RunsOfConfig) -> go.Figure | None:
    """The robust generalization gap of every track over epochs; None where no run has one."""
    tracks = {
        track: [
            each
            for run in method.runs
            for each in gap.generalization_gaps([record for record in run.records if record.track == track])
        ]
        for track in method.tracks
    }
    return gap.figure(tracks, method.runs[0].drops)


def _points(method: RunsOfConfig, track: str, split: str, measure: str) -> Points:
    points: Points = {}
    for run in method.runs:
        for record in run.records:
            if record.track == track and record.split == split:
                points.setdefault(record.epoch, []).append(100 * getattr(record, measure))
    return points


def _rows(method: RunsOfConfig, track: str) -> list[Any]:
    return [row for run in method.runs for row in run.rows if row.track == track]
