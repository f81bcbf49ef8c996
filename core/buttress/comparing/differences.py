"""The second picture of a comparison: the differences of every row to its baseline, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import TYPE_CHECKING, Any

import matplotlib

from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.comparing.groups import ORDER
from buttress.console.drawing import literal, without_latex
from buttress.storage.files import write_with
from buttress.training.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches for a row of the picture, and for what stands above and below the rows.
_LINE, _MARGIN = 0.185, 1.25
# Marks of a seed, of the mean at the best epoch, and of that at the last.
_MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "|", "markersize": 5, "color": COLOURS[6]},
    {"marker": "D", "markersize": 4.5, "color": COLOURS[1], "markerfacecolor": "white"},
    {"marker": "o", "markersize": 4.5, "color": COLOURS[2]},
)


@dataclass(frozen=True)
class Differences:
    """The differences of one row to its baseline.

    Args:
        name: name of the row.
        group: group in which it is shown, one of ``groups.ORDER``.
        values: measure (``"pgd-20 last"``) to the differences at the seeds that both have, in percentage points.
    """

    name: str
    group: str
    values: Mapping[str, Sequence[float]]

    def mean_over_seeds(self, measure: str) -> list[float]:
        """The mean over seeds; none where the measure is missing."""
        return [mean(self.values[measure])] if self.values.get(measure) else []


def differences_of(comparison: Comparison, groups: Mapping[tuple[str, str], str]) -> list[Differences]:
    """The differences of every row that has a baseline, without those of baselines to themselves.

    Names are labels without what all of them have before the first ``-``.

    Args:
        comparison: comparison with the rows.
        groups: label and track of a row to its group, see ``groups_of``.
    """
    labels = {row.label for row in comparison.rows}
    beginnings = {label.partition("-")[0] if "-" in label else "" for label in labels}
    cut = len(beginnings.pop()) + 1 if len(beginnings) == 1 < len(labels) and "" not in beginnings else 0
    rows = []
    for row in comparison.rows:
        base = comparison.baseline_of(row)
        if base is not None and base is not row:
            name = row.label[cut:] if row.track == "live" else f"{row.label[cut:]}: {row.track}"
            values = {f"{attack} {when}": _paired(row, base, f"{attack} {when}")
                      for attack in ("clean", *comparison.attacks) for when in ("best", "last")}  # fmt: skip
            rows.append(Differences(name, groups[row.label, row.track], values))
    return rows


def _paired(row: ComparedTrack, base: ComparedTrack, measure: str) -> list[float]:
    both = [seed for seed in row.values if measure in row.values[seed] and measure in base.values.get(seed, {})]
    return [100 * (row.values[seed][measure] - base.values[seed][measure]) for seed in both]


@without_latex()
def draw_differences(path: Path, rows: Sequence[Differences], attacks: Sequence[str], baseline: str) -> None:
    """Write a PNG: one panel without an attack and one for each attack, one line a row, group by group.

    Within a group, the rows with the largest mean difference at the last epoch under the first attack come first. A
    row whose means are far from most others is not drawn to scale: an arrow at the edge of the panel has its numbers.

    Args:
        path: path of the picture.
        rows: rows, at least one.
        attacks: names of the attacks, the runs' own first.
        baseline: name of what the rows are compared with.
    """
    matplotlib.use("Agg")
    figure = figure_of(rows, attacks, baseline)
    write_with(path, lambda temporary: figure.savefig(temporary))


def figure_of(rows: Sequence[Differences], attacks: Sequence[str], baseline: str) -> Figure:
    """The figure that ``draw_differences`` writes."""
    from matplotlib.figure import Figure

    lines = _lines(rows, f"{attacks[0]} last")
    names = ["clean", *attacks]
    size = (2.8 + 1.9 * len(names), _MARGIN + _LINE * len(lines))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, attack in zip(panels, names, strict=True):
        _panel(axes, lines, attack)
        axes.set_title("without an attack" if attack == "clean" else literal(attack), fontsize=9)
    panels[0].set_yticks(range(len(lines)), [line if isinstance(line, str) else literal(line.name) for line in lines])
    for label, line in zip(panels[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    panels[0].set_ylim(len(lines) - 0.3, -0.7)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    figure.supxlabel(literal(f"test accuracy minus that of {baseline}, percentage points, seed by seed"), fontsize=9)
    return figure


def _lines(rows: Sequence[Differences], measure: str) -> list[str | Differences]:
    """Titles of groups, each followed by its rows, the highest first."""
    lines: list[str | Differences] = []
    for group in ORDER:
        if own := [row for row in rows if row.group == group]:
            lines += [group, *sorted(own, key=lambda row: row.mean_over_seeds(measure), reverse=True)]
    return lines


def _panel(axes: Any, lines: Sequence[str | Differences], attack: str) -> None:
    """Draw one panel: a small mark a seed, the mean at the last epoch filled, that at the best epoch hollow."""
    last, best = f"{attack} last", f"{attack} best"
    rows = {height: line for height, line in enumerate(lines) if isinstance(line, Differences)}
    averages = {height: row.mean_over_seeds(last) + row.mean_over_seeds(best) for height, row in rows.items()}
    low, high = _fences([average for several in averages.values() for average in several])
    far = {height for height, several in averages.items() if any(not low <= average <= high for average in several)}
    near = {height: row for height, row in rows.items() if height not in far}
    marks: dict[str, dict[int, Sequence[float]]] = {
        "each seed, last epoch": {height: row.values.get(last, ()) for height, row in near.items()},
        "mean, best epoch": {height: row.mean_over_seeds(best) for height, row in near.items()},
        "mean, last epoch": {height: row.mean_over_seeds(last) for height, row in near.items()},
    }
    for (label, values), style in zip(marks.items(), _MARKS, strict=True):
        points = [(value, height) for height, several in values.items() for value in several]
        axes.plot(*zip(*points, strict=True) if points else ((), ()), linestyle="", label=label, **style)
    for height, row in rows.items():
        axes.axhline(height, color="black", alpha=0.08, linewidth=0.8, zorder=0)
        if height in far:
            _point_outside(axes, height, {"last": row.mean_over_seeds(last), "best": row.mean_over_seeds(best)})
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.margins(x=0.06)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=8, left=False)
    axes.spines[["left", "right", "top"]].set_visible(False)


def _fences(averages: Sequence[float]) -> tuple[float, float]:
    """Tukey's fences: what lies outside of them is far from most others.

    They are 1.5 interquartile ranges below the first quartile and above the third.
    """
    if len(averages) < 2:
        return -math.inf, math.inf
    first, _, third = quantiles(averages, n=4, method="inclusive")
    return first - 1.5 * (third - first), third + 1.5 * (third - first)


def _point_outside(axes: Any, height: int, averages: Mapping[str, Sequence[float]]) -> None:
    """An arrow at the edge of a panel, toward the side where a row lies, with their numbers.

    Args:
        axes: the panel.
        height: place of the row.
        averages: ``last`` and ``best`` to the mean there, if it was measured.
    """
    numbers = {when: value for when, values in averages.items() for value in values}
    side, inward = (0.0, 1) if max(numbers.values(), key=abs) < 0 else (1.0, -1)
    axes.annotate(
        ", ".join(f"{when} {value:+.1f}" for when, value in numbers.items()),
        xy=(side, height),
        xytext=(16 * inward, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        fontsize=7,
        ha="left" if inward > 0 else "right",
        va="center",
        arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0},
    )
