"""How the pictures of an analysis are drawn: PNG files by matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

from buttress.console.drawing import without_latex
from buttress.storage.files import write_with

# Dark to light: the order of groups shows in every kind of colour vision, and in grey.
ORDERED = "viridis"


@contextmanager
def figure_at(path: Path, title: str, **axes: Any) -> Iterator[Any]:
    """Axes to draw on; the picture is written at the end."""
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    with without_latex():
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        made = figure.add_subplot(**axes)
        made.set_title(title, fontsize=10)
        made.grid(alpha=0.25)
        made.set_axisbelow(True)
        yield made
        write_with(path, lambda temporary: figure.savefig(temporary))


def shades(count: int) -> list[Any]:
    """Colours for groups that have an order, dark to light."""
    return [matplotlib.colormaps[ORDERED](0.95 * number / max(1, count - 1)) for number in range(count)]


def label_epochs(axes: Any) -> None:
    """Whole numbers of epochs along the first axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epochs trained")


def with_gaps(values: Sequence[float | None]) -> list[float]:
    """NaN, which leaves a gap in a curve, in place of null."""
    return [float("nan") if value is None else value for value in values]


def weights_and_n(numbers: Mapping[str, Any]) -> str:
    """Words for a title: which weights, and how many examples."""
    return f"{numbers['track']}, {numbers['checkpoint']} (epoch {numbers['epoch']}), n = {numbers['n']}"
