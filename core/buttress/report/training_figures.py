"""The figures of a report about training itself: losses and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import plotly.graph_objects as go

from buttress.analysis.figures import Points, add_mean, empty_figure, whole_ticks
from buttress.report.figures import style
from buttress.report.material import RunsOfConfig, Trained


def losses(methods: Sequence[RunsOfConfig]) -> go.Figure:
    """Training loss over epochs, one curve for each method."""
    figure = empty_figure("training loss, nats")
    _curves(figure, methods, lambda epoch: epoch.loss, "%{y:.3f}")
    figure.update_yaxes(rangemode="tozero")
    return figure


def learning_rates(methods: Sequence[RunsOfConfig]) -> go.Figure:
    """Learning rate over epochs, one curve for each method; the axis is logarithmic beyond a factor of 20."""
    figure = empty_figure("learning rate")
    _curves(figure, methods, lambda epoch: epoch.lr, "%{y:.3g}", shape="hvh")
    rates = [epoch.lr for method in methods for run in method.runs for epoch in run.trained]
    if rates and 0 < 20 * min(rates) < max(rates):
        figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def _curves(
    figure: go.Figure,
    methods: Sequence[RunsOfConfig],
    value: Callable[[Trained], float],
    hover: str,
    shape: str = "linear",
) -> None:
    for number, method in reversed(list(enumerate(methods))):  # the baseline on top
        points: Points = {}
        for trained in (each for run in method.runs for each in run.trained):
            if isfinite(value(trained)):
                points.setdefault(trained.epoch, []).append(value(trained))
        look = style(number, baseline=len(methods) > 1)
        add_mean(figure, points, method.label, look.colour, look.dash, group=method.label, hover=hover, shape=shape)
        if points:
            figure.data[-1].update(line_width=look.width)
    figure.update_layout(legend_traceorder="reversed", showlegend=len(methods) > 1)
    whole_ticks(figure)
