"""The picture of a search: its values in their order, and over each setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from buttress.console.drawing import literal, without_latex
from buttress.console.tables import percent
from buttress.searching.result import SearchResult
from buttress.searching.space import Dimension, SearchedChoice
from buttress.searching.study import SearchTrial
from buttress.storage.files import write_with
from buttress.training.curves import COLOURS

_DONE, _BEST, _PRUNED = COLOURS[2], COLOURS[1], "#888888"
# Panels beside one another, at most, and letters of a value at an axis.
_COLUMNS, _LONGEST = 3, 12


@without_latex()
def draw_search(path: Path, result: SearchResult, dimensions: Sequence[Dimension]) -> None:
    """Write a PNG: validation accuracy over the trials, with the best so far, and over each setting.

    Args:
        path: path of the picture.
        result: result with at least one trial that is done.
        dimensions: settings that were searched.
    """
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    count = 1 + len(dimensions)
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.8 * lines + 0.8), dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    _history(panels[0], result)
    for axes, dimension in zip(panels[1:], dimensions, strict=False):
        _slice(axes, result, dimension)
    for axes in panels[:count]:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=7, labelleft=True)
    for axes in panels[count:]:
        axes.set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8)
    figure.supylabel(literal(f"robust validation accuracy ({result.attack}), %"), fontsize=9)
    write_with(path, lambda temporary: figure.savefig(temporary))


def _history(axes: Any, result: SearchResult) -> None:
    from matplotlib.ticker import MaxNLocator

    _points(axes, result, lambda trial: trial.number)
    done = [trial for trial in result.trials if trial.state == "done"]
    highest = [max(100 * each.value for each in done[: place + 1]) for place in range(len(done))]
    last = max(trial.number for trial in result.trials)
    axes.step(
        [*(trial.number for trial in done), last],
        [*highest, highest[-1]],
        where="post",
        color=_DONE,
        linewidth=1.2,
        label="best so far",
    )
    axes.set_xlabel("trial", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    best = result.ranked[0]
    axes.set_title(f"best: trial {best.number}, {percent(best.value)} %", fontsize=8)


def _slice(axes: Any, result: SearchResult, dimension: Dimension) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if isinstance(dimension, SearchedChoice):
        positions = {value: place for place, value in enumerate(dimension.values)}
        _points(axes, result, lambda trial: positions[trial.settings[dimension.key]])
        shown = [value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..." for value in dimension.values]
        axes.set_xticks(range(len(shown)), [literal(each) for each in shown])
        axes.set_xlim(-0.5, len(shown) - 0.5)
    else:
        _points(axes, result, lambda trial: float(trial.settings[dimension.key]))
        if dimension.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())  # labels of every digit would cover one another
        elif dimension.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(literal(dimension.key), fontsize=8)


def _points(axes: Any, result: SearchResult, position: Callable[[SearchTrial], float]) -> None:
    """One mark a trial: filled if it is done, hollow at its last value if it was pruned, a star for the best."""
    pruned = [trial for trial in result.trials if trial.state == "pruned" and trial.curve]
    heights = [100 * trial.curve[max(trial.curve)] for trial in pruned]
    axes.scatter(
        [position(trial) for trial in pruned],
        heights,
        s=22,
        facecolors="none",
        edgecolors=_PRUNED,
        label="pruned: its last value" if pruned else None,
    )
    best, *others = result.ranked
    axes.scatter(
        [position(trial) for trial in others], [100 * trial.value for trial in others], s=22, color=_DONE, label="done"
    )
    axes.scatter([position(best)], [100 * best.value], s=130, marker="*", color=_BEST, zorder=3, label="best")
