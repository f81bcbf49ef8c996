"""What a comparison shows: means and deviations over seeds, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

from buttress.curves import COLOURS
from buttress.files import write_with
from buttress.tables import table

MEASURES = ("best", "last", "diff")


@dataclass
class Row:
    """One track of one variant over seeds.

    Args:
        label: of the variant.
        track: ``live`` or an ensemble's name.
        values: seed to measure (``"clean best"``, ``"pgd-20 last"``) to accuracy in [0, 1].
    """

    label: str
    track: str
    values: dict[int, dict[str, float]] = field(default_factory=dict)

    def column(self, measure: str) -> list[float]:
        return [values[measure] for values in self.values.values()]


@dataclass
class Comparison:
    """All rows, and what failed.

    Args:
        attacks: names, the runs' own first.
        rows: variant by variant, track by track.
        failed: label of a variant and seed to the last line of its error.
        baseline: label of the variant whose live model the others are compared with.
        by: split on which the best epochs were chosen.
        n: test examples.
    """

    attacks: list[str]
    rows: list[Row]
    failed: dict[tuple[str, int], str]
    baseline: str
    by: str
    n: int

    def table(self, markdown: bool = False) -> str:
        """Mean and sample standard deviation over seeds, in percent."""
        measures = [f"{attack} {measure}" for attack in ("clean", *self.attacks) for measure in MEASURES]
        header = ["method", "track", *measures, "paired", "seeds"]
        base = next((row for row in self.rows if (row.label, row.track) == (self.baseline, "live")), None)
        lines = [
            [
                row.label,
                row.track,
                *(_cell(row.column(measure)) for measure in measures),
                self._paired(row, base),
                str(len(row.values)),
            ]
            for row in self.rows
        ]
        for (label, seed), reason in self.failed.items():
            lines.append([label, "failed", *[""] * (len(measures) + 1), f"seed {seed}: {reason}"])
        if markdown:
            rows = ["| " + " | ".join(line) + " |" for line in [header, *lines]]
            return "\n".join([rows[0], "|" + "---|" * len(header), *rows[1:]])
        return table(header, lines)

    def notes(self) -> str:
        return (
            f"Test accuracies in %, n = {self.n}: mean +- sample standard deviation over seeds; best epoch chosen on "
            f"{self.by} by {self.attacks[0]}, every column at that same epoch. paired: last {self.attacks[0]} minus "
            f"that of {self.baseline}'s live model, seed by seed."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "attacks": self.attacks,
            "baseline": self.baseline,
            "best_by": self.by,
            "n": self.n,
            "rows": [{"method": row.label, "track": row.track, "seeds": row.values} for row in self.rows],
            "failed": [{"method": label, "seed": seed, "error": why} for (label, seed), why in self.failed.items()],
        }

    def _paired(self, row: Row, base: Row | None) -> str:
        measure = f"{self.attacks[0]} last"
        if base is None or row is base:
            return "0" if row is base else ""
        both = [seed for seed in row.values if seed in base.values]
        return _cell([row.values[seed][measure] - base.values[seed][measure] for seed in both], sign=True)


def _cell(values: Sequence[float], sign: bool = False) -> str:
    if not values:
        return ""
    middle = f"{100 * mean(values):{'+' if sign else ''}.1f}"
    return f"{middle} +- {100 * stdev(values):.1f}" if len(values) > 1 else middle


def draw_comparison(path: Path, curves: dict[str, dict[str, list[Path]]], baseline: str, attack: str) -> None:
    """Write a PNG: robust test accuracy over epochs, one panel a variant, a band of one deviation around the mean.

    Args:
        path: of the picture.
        curves: label of a variant to track to the ``metrics.jsonl`` files of its seeds.
        baseline: its live model stands in every panel.
        attack: what robust accuracy was measured with.
    """
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(4, max(1, len(curves)))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.6, 2.6 * lines + 0.6), dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    reference = _curve(curves[baseline]["live"], "live") if baseline in curves else None
    for axes, (label, tracks) in zip(panels, curves.items(), strict=False):
        if reference is not None and label != baseline:
            axes.plot(reference[0], reference[1], color="#999999", linestyle="--", linewidth=1, label=baseline)
        for (track, files), colour in zip(tracks.items(), COLOURS * len(tracks), strict=False):
            epochs, middle, low, high = _curve(files, track)
            axes.plot(epochs, middle, color=colour, linewidth=1.6, label=track)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_title(label.replace(" ", "\n", 1), fontsize=8)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=6, loc="lower right")
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("epochs trained", fontsize=9)
    figure.supylabel(f"robust test accuracy ({attack}), %", fontsize=9)
    write_with(path, lambda temporary: figure.savefig(temporary))


def _curve(files: Sequence[Path], track: str) -> tuple[list[int], list[float], list[float], list[float]]:
    found: dict[int, list[float]] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["event"] == "evaluation" and record["track"] == track and record["split"] == "test":
                found.setdefault(record["epoch"] + 1, []).append(100 * record["robust"])
    epochs = sorted(found)
    middle = [mean(found[epoch]) for epoch in epochs]
    spread = [stdev(found[epoch]) if len(found[epoch]) > 1 else 0.0 for epoch in epochs]
    low, high = ([m + sign * s for m, s in zip(middle, spread, strict=True)] for sign in (-1, 1))
    return epochs, middle, low, high
