"""The elements of a page, sections, tables, figures and pictures; and the form of numbers in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.io import to_json

from buttress.console.tables import percent
from buttress.report.material import RunsOfConfig
from buttress.scoring.worst_case import interval

# Text of an empty section whose numbers come from an analysis.
ANALYZE = "Not there yet; this makes it: buttress analyze RUN"

# Beginning of a text that plotly would draw as a link: a name in a figure stays text.
_LINK = re.compile(r"(?:<|\\u003c)(?=a\s)", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """A figure in the page.

    Args:
        title: text above the figure.
        json: the figure as plotly reads it.
        note: text below the figure.
        wide: whether the figure takes the whole width of the page.
    """

    title: str
    json: str
    note: str = ""
    wide: bool = False


class Cell(NamedTuple):
    """A cell of a table with a smaller line below."""

    text: str
    below: str


@dataclass(frozen=True)
class Table:
    """A table of texts and ``Cell`` objects; ``kinds`` may name a class of the style sheet for each row."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    kinds: Sequence[str] = ()


@dataclass(frozen=True)
class ExampleColumn:
    """One example: pictures from top to bottom, each a PNG file in base64 and a text for readers who cannot see it."""

    caption: str
    images: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Pictures:
    """Examples side by side."""

    title: str
    examples: Sequence[ExampleColumn]
    note: str


@dataclass(frozen=True)
class Section:
    """A heading with tables, figures and pictures; ``missing`` says how to get what is not there."""

    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    missing: str = ""
    pictures: list[Pictures] = field(default_factory=list)


def figure_of(title: str, figure: go.Figure, note: str = "", wide: bool = False) -> Figure:
    return Figure(title, _LINK.sub("&lt;", str(to_json(figure))), note, wide)


def decimals(value: float | None, places: int) -> str:
    return "undefined" if value is None else f"{value:.{places}f}"


def measured(shares: Sequence[float], n: int | None) -> str | Cell:
    """The mean and spread of shares over seeds; and below, if there is an n, the interval for n examples.

    The interval is that of the mean, rounded to whole examples.
    """
    text = spread(shares)
    if n is None:
        return text
    low, high = interval(round(mean(shares) * n), n)
    return Cell(text, f"{percent(low)} to {percent(high)}")


def spread(values: Sequence[float]) -> str:
    middle = percent(mean(values))
    return f"{middle} ± {percent(stdev(values))}" if len(values) > 1 else middle


def band(methods: Sequence[RunsOfConfig]) -> str:
    most = max(len(method.runs) for method in methods)
    return f"Mean of {most} seeds; band: one standard deviation." if most > 1 else ""


def with_caution(note: str, numbers: Mapping[str, Any]) -> str:
    """The note, followed by a caution if the numbers carry a mark that makes them unreliable."""
    return f"{note} Caution: {numbers['mark']}." if numbers["mark"] else note


def whose(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['track']}, {numbers['checkpoint']} (epoch {numbers['epoch']})"
