"""The figures of a report about training itself, and about classes: losses, learning rates, accuracies by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import plotly.graph_objects as go

from buttress.console.tables import percent
from buttress.report.figures import Points, empty_figure, line, style, whole_ticks
from buttress.report.material import Method, Trained
from buttress.training.curves import COLOURS


def losses(methods: Sequence[Method]) -> go.Figure:
    """Training loss over epochs, one curve a method."""
    figure = empty_figure("training loss, nats")
    _curves(figure, methods, lambda epoch: epoch.loss, "%{y:.3f}")
    figure.update_yaxes(rangemode="tozero")
    return figure


def learning_rates(methods: Sequence[Method]) -> go.Figure:
    """Learning rate over epochs, one curve a method; a logarithmic axis where it spans more than a factor of 20."""
    figure = empty_figure("learning rate")
    _curves(figure, methods, lambda epoch: epoch.lr, "%{y:.3g}", shape="hvh")
    rates = [epoch.lr for method in methods for run in method.runs for epoch in run.trained]
    if rates and 0 < 20 * min(rates) < max(rates):
        figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def _curves(
    figure: go.Figure, methods: Sequence[Method], value: Callable[[Trained], float], hover: str, shape: str = "linear"
) -> None:
    for number, method in reversed(list(enumerate(methods))):  # the baseline on top
        points: Points = {}
        for trained in (each for run in method.runs for each in run.trained):
            if isfinite(value(trained)):
                points.setdefault(trained.epoch, []).append(value(trained))
        look = style(number, baseline=len(methods) > 1)
        line(figure, points, method.label, look.colour, look.dash, group=method.label, hover=hover, shape=shape)
        if points:
            figure.data[-1].update(line_width=look.width)
    figure.update_layout(legend_traceorder="reversed", showlegend=len(methods) > 1)
    whole_ticks(figure)


def classes(numbers: Mapping[str, Any], checkpoint: str, shown: Sequence[int]) -> go.Figure:
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
