"""What a comparison shows: means and deviations over seeds, as a table, as JSON and as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

from buttress.storage.files import write_with
from buttress.storage.run_folder import read_metrics
from buttress.tables import percent, table
from buttress.training.curves import COLOURS

MEASURES = ("best", "last", "diff")
# Of an error in a cell of the table; the JSON has all of it.
_LONGEST_REASON = 120


@dataclass
class Row:
    """One track of one variant over seeds.

    Args:
        label: of the variant.
        track: ``live`` or an ensemble's name.
        n: test examples.
        values: seed to measure (``"clean best"``, ``"pgd-20 last"``) to accuracy in [0, 1].
        best_epochs: seed to the epoch (from 1) that was chosen.
        metrics: the ``metrics.jsonl`` of every seed.
    """

    label: str
    track: str
    n: int
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    best_epochs: dict[int, int] = field(default_factory=dict)
    metrics: list[Path] = field(default_factory=list)

    def column(self, measure: str) -> list[float]:
        """The measure at every seed."""
        return [values[measure] for values in self.values.values()]


@dataclass
class Comparison:
    """All rows, and what failed.

    Args:
        attacks: names, the runs' own first.
        rows: variant by variant, track by track.
        failed: label of a variant and seed to the last line of its error.
        baselines: label of a variant to the label of the one with whose live model it is compared.
        by: split on which the best epochs were chosen.
        caution: a sentence about numbers that are not of the same examples; empty where they are.
    """

    attacks: list[str]
    rows: list[Row]
    failed: dict[tuple[str, int], str]
    baselines: Mapping[str, str]
    by: str
    caution: str = ""

    def baseline_of(self, row: Row) -> Row | None:
        """The row of the live model that ``row`` is compared with, if there is one."""
        label = self.baselines.get(row.label)
        return next((other for other in self.rows if (other.label, other.track) == (label, "live")), None)

    def paired(self, row: Row) -> list[float]:
        """Last robust accuracy minus that of the baseline's live model, at every seed that both have."""
        base, measure = self.baseline_of(row), f"{self.attacks[0]} last"
        if base is None:
            return []
        return [row.values[seed][measure] - base.values[seed][measure] for seed in row.values if seed in base.values]

    def table(self, markdown: bool = False) -> str:
        """Mean and sample standard deviation over seeds, in percent."""
        measures = [f"{attack} {measure}" for attack in ("clean", *self.attacks) for measure in MEASURES]
        header = ["method", "track", *measures, "paired", "seeds"]
        lines = []
        for row in self.rows:
            paired = "0" if row is self.baseline_of(row) else _cell(self.paired(row), sign=True)
            cells = (_cell(row.column(measure)) for measure in measures)
            lines.append([row.label, row.track, *cells, paired, str(len(row.values))])
        for (label, seed), reason in self.failed.items():
            short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
            lines.append([label, "failed", *[""] * (len(measures) + 1), f"seed {seed}: {short}"])
        if markdown:
            plain = [[" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines]
            head, *rows = ("| " + " | ".join(line) + " |" for line in [header, *plain])
            return "\n".join([head, "|" + "---|" * len(header), *rows])
        return table(header, lines)

    def notes(self) -> str:
        """What the numbers of the table are."""
        sizes, against = sorted({row.n for row in self.rows}), list(dict.fromkeys(self.baselines.values()))
        of = f", n = {', '.join(map(str, sizes))}" if sizes else ""
        bias = " (the papers' protocol, biased upward)" if self.by == "test" else ""
        whose = against[0] if len(against) == 1 else f"the one of {', '.join(against)} that has the same settings"
        return (
            f"Test accuracies in %{of}: mean +- sample standard deviation over seeds; best epoch chosen on {self.by}"
            f"{bias} by {self.attacks[0]}, every best column at that same epoch. paired: last {self.attacks[0]} minus "
            f"that of the live model of {whose}, seed by seed." + (f" {self.caution}" if self.caution else "")
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, accuracies in [0, 1]; a deviation needs two seeds, else it is null."""
        return {
            "attacks": self.attacks,
            "baselines": dict(self.baselines),
            "best_by": self.by,
            "caution": self.caution,
            "rows": [
                {
                    "method": row.label,
                    "track": row.track,
                    "n": row.n,
                    "seeds": row.values,
                    "best_epochs": row.best_epochs,
                    "statistics": {
                        **{measure: _statistics(row.column(measure)) for measure in next(iter(row.values.values()))},
                        "paired": _statistics(self.paired(row)),
                    },
                }
                for row in self.rows
            ],
            "failed": [{"method": label, "seed": seed, "error": why} for (label, seed), why in self.failed.items()],
        }


def _statistics(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": mean(values) if values else None, "std": stdev(values) if len(values) > 1 else None}


def _cell(values: Sequence[float], sign: bool = False) -> str:
    """``" 73.0 +-  4.2"``: of one width, so that the points of a column stand below each other."""
    if not values:
        return ""
    middle = percent(mean(values), sign=sign).rjust(5)
    return f"{middle} +- {percent(stdev(values)):>4}" if len(values) > 1 else middle


def draw_comparison(path: Path, found: Comparison) -> None:
    """Write a PNG: robust test accuracy over epochs, one panel a variant, a band of one deviation around the mean.

    The live model of a variant's baseline stands in its panel too, dashed.
    """
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(row.label for row in found.rows))
    tracks = list(dict.fromkeys(row.track for row in found.rows))
    colours = dict(zip(tracks, COLOURS * len(tracks), strict=False))  # a track has its colour in every panel
    lines = -(-len(labels) // 4)
    columns = -(-len(labels) // lines)  # as even as can be: five panels are three and two
    against = sorted({label for label in found.baselines.values() if label in labels})
    baseline = f"baseline: {against[0]}" if len(against) == 1 else "baseline"
    figure = Figure(figsize=(max(5.0, 3.0 * columns + 0.6), 2.5 * lines + 1.0), dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, label in zip(panels, labels, strict=False):
        own = [row for row in found.rows if row.label == label]
        base = found.baseline_of(own[0])
        if base is not None and base.label != label:
            epochs, middle, _ = _curve(base)
            axes.plot(epochs, middle, color="#888888", linestyle="--", linewidth=1.2, label=baseline)
        for row in reversed(own):  # the live curve on top: a track that has not begun coincides with it
            epochs, middle, spread = _curve(row)
            low, high = ([m + side * s for m, s in zip(middle, spread, strict=True)] for side in (-1, 1))
            axes.plot(epochs, middle, color=colours[row.track], linewidth=1.6, label=row.track)
            axes.fill_between(epochs, low, high, color=colours[row.track], alpha=0.18, linewidth=0)
        axes.set_title(textwrap.fill(label, 40), fontsize=8)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=7, labelbottom=True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for axes in panels[len(labels) :]:
        axes.set_visible(False)
    handles = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [name for name in (*tracks, baseline) if name in handles]
    figure.legend(
        [handles[name] for name in order],
        order,
        loc="outside upper center",
        ncols=6,
        fontsize=8,
        title="mean over seeds; band: one standard deviation",
        title_fontsize=8,
    )
    figure.supxlabel("epochs trained", fontsize=9)
    figure.supylabel(f"robust test accuracy ({found.attacks[0]}), %", fontsize=9)
    write_with(path, lambda temporary: figure.savefig(temporary))


def _curve(row: Row) -> tuple[list[int], list[float], list[float]]:
    """Epochs trained; mean and deviation over seeds of the robust test accuracy there, in percent."""
    found: dict[int, list[float]] = {}
    for path in row.metrics:
        for record in read_metrics(path):
            if record["event"] == "evaluation" and record["track"] == row.track and record["split"] == "test":
                found.setdefault(record["epoch"], []).append(100 * record["robust"])
    epochs = sorted(found)
    middle = [mean(found[epoch]) for epoch in epochs]
    return epochs, middle, [stdev(found[epoch]) if len(found[epoch]) > 1 else 0.0 for epoch in epochs]
