"""The picture of a bench: horizontal bars of the phases, of the hand-written loop, and of the machine's limits."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib

from buttress.benching.speed import Speed
from buttress.benching.speed_text import amounts, digits, headline, milliseconds, setting
from buttress.console.drawing import literal, without_latex
from buttress.console.tables import percent
from buttress.errors import ConfigError
from buttress.storage.files import write_with
from buttress.training.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _LIMIT = COLOURS[2], COLOURS[3]
_THEIRS, _FAINT = "#999999", "#EEEEEE"
_THICK = 0.66
"""Thickness of a bar, in bars."""
_ROOM = 1.36
"""Width of a panel over its longest bar, for the text at the end."""


def expect_picture(path: Path) -> None:
    """Expect a path of ``--picture`` at which a PNG file can be written.

    Raises:
        ConfigError: it is another one.
    """
    if path.suffix != ".png" or path.is_dir():
        raise ConfigError("expected the name of a file that ends in .png", key=f"--picture {path}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder; make it first", key=f"--picture {path}")


@without_latex()
def draw_speed(path: Path, speed: Speed) -> None:
    """Write a PNG; one that is there is replaced."""
    figure = speed_figure(speed)
    write_with(path, lambda temporary: figure.savefig(temporary))


def speed_figure(speed: Speed) -> Figure:
    """The picture as a figure of matplotlib."""
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    panels = [panel for panel in (_phases(speed), _loop(speed), _limits(speed)) if panel is not None]
    sizes = [len(panel.bars) for panel in panels]
    title = "\n".join(textwrap.fill(line, 100) for line in (headline(speed), setting(speed)))
    lines = len(title.splitlines()) + sum(len(panel.title.splitlines()) for panel in panels)
    figure = Figure(figsize=(8, 0.2 + 0.3 * sum(sizes) + 0.28 * lines), dpi=120, layout=layout)
    figure.suptitle(literal(title), fontsize=10)
    rows = figure.subplots(len(panels), 1, height_ratios=sizes, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw(axes, panel)
    return figure


class _Bar(NamedTuple):
    """One bar: its name, its length, the text at its end, its colour."""

    name: str
    length: float
    text: str
    colour: str


class _Panel(NamedTuple):
    """Bars below a title; ``whole``: the length that is 100 %, which is drawn behind each of them."""

    title: str
    bars: list[_Bar]
    whole: float = 0.0


def _draw(axes: Any, panel: _Panel) -> None:
    longest = max([panel.whole, *(bar.length for bar in panel.bars)])
    for place, bar in enumerate(panel.bars):
        axes.barh(place, panel.whole, color=_FAINT, height=_THICK)
        axes.barh(place, bar.length, color=bar.colour, height=_THICK)
        end = max(panel.whole, bar.length)
        axes.text(end + 0.01 * longest, place, literal(bar.text), va="center", fontsize=8)
    axes.set_yticks(range(len(panel.bars)), [literal(bar.name) for bar in panel.bars], fontsize=8)
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.set_xlim(0, _ROOM * longest)
    axes.set_title(literal(panel.title), fontsize=9, loc="left")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)


def _phases(speed: Speed) -> _Panel:
    steps, epoch = speed.phase_seconds(), speed.epoch_seconds()
    whole = sum(epoch.values())

    def text(name: str) -> str:
        a_step = f", {milliseconds(steps[name])} a step" if name in steps else ""
        return f"{percent(epoch[name] / whole)} %{a_step}"

    bars = [_Bar(name, seconds, text(name), _OURS) for name, seconds in epoch.items()]
    return _Panel(f"An epoch takes {digits(whole)} s, its share of an evaluation included", bars)


def _loop(speed: Speed) -> _Panel | None:
    if speed.method is None or speed.loop_seconds is None or speed.ratio is None:
        return None
    ours, theirs = speed.update_seconds, speed.loop_seconds
    without = f", without {', '.join(speed.method.without)}" if speed.method.without else ""
    bars = [
        _Bar("buttress", ours, f"{milliseconds(ours)}, {speed.ratio:.2f} of the loop's", _OURS),
        _Bar("hand-written loop", theirs, milliseconds(theirs), _THEIRS),
    ]
    title = f"A step beside that of a hand-written loop: {speed.method}{without}"
    return _Panel(textwrap.fill(title, 90), bars)


def _limits(speed: Speed) -> _Panel:
    bars = [
        _Bar(each.limit, each.share, f"{percent(each.share)} % ({' at '.join(amounts(each))})", _LIMIT)
        for each in speed.shares()
    ]
    return _Panel("Share of a step's time that its work would take at the limits of this machine", bars, whole=1.0)
