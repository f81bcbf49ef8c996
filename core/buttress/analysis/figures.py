"""How the interactive figures of an analysis and of a report are made, by plotly."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from buttress.console.tables import percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Viridis at seven places: dark to light, so that the order shows in every kind of colour vision and in grey.
SHADES = ("#440154", "#443983", "#31688E", "#21918c", "#35b779", "#90d743", "#e3cf1b")
# Nats: beyond it the walls of a landscape would hide its valley.
HIGHEST = 6.0

Points = dict[int, list[float]]
"""Epochs trained to one value a seed."""


def empty_figure(y: str, x: str = "epochs trained", whole: bool = True) -> go.Figure:
    """Empty axes; ``whole``: the ticks of x are whole numbers."""
    figure = blank_figure()
    figure.update_layout(base_layout(), height=360, hovermode="x unified")
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


def blank_figure() -> go.Figure:
    """A figure without axes."""
    import plotly.graph_objects as go

    return go.Figure(layout={"template": "none"})


def base_layout() -> dict[str, Any]:
    """Fonts, margins, colours and legend of every figure."""
    return {
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#222222"},
        "margin": {"l": 52, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        # Above the plot: there it pushes the axes down by what it needs, whatever the width of the page.
        "legend": {"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "xref": "container", "x": 0},
        "autosize": True,
    }


def add_mean(
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
    """Add a mean over seeds, and around it a band of one standard deviation, where there are two seeds or more.

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
    add_curve(figure, epochs, middle, name, colour, dash=dash, hover=hover or "%{customdata}", **common)


def add_curve(
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
    """Add one curve; ``hover``: template of what a value shows."""
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


def whole_ticks(figure: go.Figure) -> None:
    """Give each of few epochs a tick of its own, so that none is written twice."""
    reached = [x for trace in figure.data for x in trace.x or ()]
    if reached and max(reached) < 10:
        figure.update_xaxes(tickmode="linear", tick0=0, dtick=1)


def mark_drops(figure: go.Figure, drops: Sequence[float]) -> None:
    """Mark the times, in epochs, at which the learning rate drops."""
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
