"""The picture of a comparison: learning curves, one panel a variant."""

from __future__ import annotations

import textwrap
from pathlib import Path
from statistics import mean, stdev

import matplotlib

from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.console.drawing import literal, without_latex
from buttress.storage.files import write_with
from buttress.training.curves import COLOURS


@without_latex()
def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG: robust test accuracy over epochs, one panel a variant, a band of one deviation around the mean.

    The live model of a variant's baseline stands in its panel too, dashed.
    """
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(row.label for row in comparison.rows))
    tracks = list(dict.fromkeys(row.track for row in comparison.rows))
    colours = dict(zip(tracks, COLOURS * len(tracks), strict=False))  # a track has its colour in every panel
    lines = -(-len(labels) // 4)
    columns = -(-len(labels) // lines)  # as even as can be: five panels are three and two
    against = sorted({label for label in comparison.baselines.values() if label in labels})
    baseline = literal(f"baseline: {against[0]}") if len(against) == 1 else "baseline"
    figure = Figure(figsize=(max(5.0, 3.0 * columns + 0.6), 2.5 * lines + 1.0), dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, label in zip(panels, labels, strict=False):
        own = [row for row in comparison.rows if row.label == label]
        base = comparison.baseline_of(own[0])
        if base is not None and base.label != label:
            epochs, middle, _ = _curve(base)
            axes.plot(epochs, middle, color="#888888", linestyle="--", linewidth=1.2, label=baseline)
        for row in reversed(own):  # the live curve on top: a track that has not begun coincides with it
            epochs, middle, spread = _curve(row)
            low, high = ([m + side * s for m, s in zip(middle, spread, strict=True)] for side in (-1, 1))
            axes.plot(epochs, middle, color=colours[row.track], linewidth=1.6, label=row.track)
            axes.fill_between(epochs, low, high, color=colours[row.track], alpha=0.18, linewidth=0)
        chosen = [row.track for row in own if comparison.is_chosen(row)]
        mark = f"\n* best on validation: {', '.join(chosen)}" if chosen else ""
        axes.set_title(literal(textwrap.fill(label, 40) + mark), fontsize=8, fontweight="bold" if chosen else "normal")
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
    figure.supylabel(literal(f"robust test accuracy ({comparison.attacks[0]}), %"), fontsize=9)
    write_with(path, lambda temporary: figure.savefig(temporary))


def _curve(row: ComparedTrack) -> tuple[list[int], list[float], list[float]]:
    """Epochs trained; mean and deviation over seeds of the robust test accuracy there, in percent."""
    accuracies: dict[int, list[float]] = {}
    for record in row.records:
        if record.track == row.track and record.split == "test":
            accuracies.setdefault(record.epoch, []).append(100 * record.robust)
    epochs = sorted(accuracies)
    middle = [mean(accuracies[epoch]) for epoch in epochs]
    return epochs, middle, [stdev(accuracies[epoch]) if len(accuracies[epoch]) > 1 else 0.0 for epoch in epochs]
