"""The picture of a run: robust accuracy over epochs, of every track, with the learning-rate drops."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from buttress.console.drawing import without_latex
from buttress.console.tables import percent
from buttress.storage.files import write_with
from buttress.training.selection import Record, TrackSummary

# Okabe and Ito's palette without its yellow, which white paper swallows, and three more at a distance from all of them:
# people with every kind of colour vision can distinguish them.
COLOURS = (
    "#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8007ED", "#682C00", "#999933",
)  # fmt: skip


@without_latex()
def draw_curves(
    path: Path,
    records: Sequence[Record],
    rows: Sequence[TrackSummary],
    drops: Sequence[float],
    title: str,
    attack: str,
    by: str,
) -> None:
    """Write a PNG.

    Args:
        path: path of the picture.
        records: every evaluation of the run.
        rows: the summary, for the marks at the best epochs.
        drops: times, in epochs, at which the learning rate drops.
        title: title of the picture.
        attack: name of the attack of robust accuracy.
        by: name of the split on which the best epochs were chosen.
    """
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for row, colour in zip(rows, COLOURS * len(rows), strict=False):
        epochs, robust = _curve(records, row.track, "test")
        name = "live model" if row.track == "live" else row.track
        label = f"{name}: {percent(row.robust_best)} at best, {percent(row.robust_last)} at the end"
        # The live curve on top: a track that has not begun coincides with it.
        order = 3 if row.track == "live" else 2
        axes.plot(epochs, robust, color=colour, marker="o", markersize=3, linewidth=1.8, label=label, zorder=order)
        axes.plot([row.best_epoch], [100 * row.robust_best], color=colour, marker="*", markersize=13, zorder=4)
    epochs, train = _curve(records, "live", "train")
    if epochs:
        axes.plot(
            epochs, train, color=COLOURS[0], linestyle=":", linewidth=1.5, label="live model, on the training set"
        )
    for position, drop in enumerate(drops):
        once = "learning-rate drop" if position == 0 else None
        axes.axvline(drop, color="#999999", linestyle="--", linewidth=1, label=once)
    axes.set_xlabel("epochs trained")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"robust accuracy ({attack}), %")
    n = rows[0].n
    axes.set_title(f"{title}\ntest n = {n}; stars: epoch chosen on {by}", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    write_with(path, lambda temporary: figure.savefig(temporary))


def _curve(records: Sequence[Record], track: str, split: str) -> tuple[list[int], list[float]]:
    chosen = sorted((r for r in records if r.track == track and r.split == split), key=lambda r: r.epoch)
    return [r.epoch for r in chosen], [100 * r.robust for r in chosen]
