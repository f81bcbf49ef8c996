"""The pictures of an analysis, as PNG files; each is drawn from the numbers of the JSON file beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

from buttress.console.drawing import without_latex
from buttress.scoring.loss_groups import group_names
from buttress.storage.files import write_with
from buttress.training.curves import COLOURS

# Dark to light: the order of the groups shows in every kind of colour vision, and in grey.
_ORDERED = "viridis"
# Nats: beyond it the walls of a landscape would hide its valley.
_HIGHEST = 6.0


def draw_gap(path: Path, numbers: Mapping[str, Any]) -> None:
    """Robust accuracy on training set and test set over epochs, and their difference, of every track."""
    with figure_at(path, "robust generalization gap") as axes:
        for (track, found), colour in zip(numbers["tracks"].items(), COLOURS * 9, strict=False):
            epochs = [row["epoch"] for row in found["epochs"]]
            for key, line, label in (("robust_train", ":", None), ("robust_test", "--", None), ("robust", "-", track)):
                values = [100 * row[key] for row in found["epochs"]]
                # The live curve on top: a track that has not begun coincides with it.
                order = 3 if track == "live" else 2
                axes.plot(epochs, values, color=colour, linestyle=line, linewidth=1.8, label=label, zorder=order)
        for line, label in ((":", "training set"), ("--", "test set"), ("-", "difference")):
            axes.plot([], [], color="#777777", linestyle=line, label=label)
        _epochs(axes)
        axes.set_ylabel(f"robust accuracy ({numbers['attack']}), %")
        axes.legend(fontsize=8, ncols=2)


def draw_landscape(path: Path, numbers: Mapping[str, Any]) -> None:
    """Mean loss of every LSC group along one direction."""
    with figure_at(path, f"weight-loss landscape, {_whose(numbers)}") as axes:
        names, colours = group_names(numbers["edges"]), _shades(len(numbers["groups"]))
        for name, size, losses, colour in zip(names, numbers["sizes"], numbers["groups"], colours, strict=True):
            if size:
                axes.plot(
                    numbers["mu"], _gaps(losses), color=colour, linewidth=1.8, label=f"loss {name}: {size} examples"
                )
        label = f"all {numbers['n']} examples"
        axes.plot(numbers["mu"], _gaps(numbers["mean"]), color="#000000", linestyle="--", label=label)
        axes.set_ylim(0, _HIGHEST)
        axes.set_xlabel("step along the direction, in norms of the filters")
        axes.set_ylabel(f"adversarial loss ({numbers['attack']}), nats")
        axes.legend(fontsize=8)


def draw_surface(path: Path, numbers: Mapping[str, Any]) -> None:
    """Loss over the plane of two directions, cut off above."""
    import numpy as np

    heights = np.clip(np.array(numbers["loss"], dtype=float), None, _HIGHEST)
    a, b = np.meshgrid(numbers["steps"], numbers["steps"], indexing="ij")
    with figure_at(path, f"loss landscape, {_whose(numbers)}", projection="3d") as axes:
        axes.plot_surface(a, b, heights, cmap=_ORDERED, vmin=0, vmax=_HIGHEST, rstride=1, cstride=1, linewidth=0)
        axes.set_zlim(0, _HIGHEST)
        axes.set_xticks([numbers["steps"][0], 0, numbers["steps"][-1]])
        axes.set_yticks([numbers["steps"][0], 0, numbers["steps"][-1]])
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        axes.set_zlabel(f"adversarial loss ({numbers['attack']}), nats")
        axes.set_box_aspect(None, zoom=0.85)


def draw_histogram(path: Path, numbers: Mapping[str, Any]) -> None:
    """Weights of one layer, of every track, on shared bins."""
    edges = numbers["edges"]
    with figure_at(path, f"weights of {numbers['layer']}, {numbers['checkpoint']}") as axes:
        for (track, found), colour in zip(numbers["tracks"].items(), COLOURS * 9, strict=False):
            shape = f"largest {found['largest']:.3f}, kurtosis {_number(found['kurtosis'])}"
            label = f"{track}: std {found['std']:.4f}, {shape}"
            axes.stairs(found["counts"], edges, color=colour, linewidth=1.5, label=label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, None)
        axes.set_xlabel("weight")
        axes.set_ylabel("number of weights")
        axes.legend(fontsize=8, loc="lower center")


def draw_loss_groups(path: Path, numbers: Mapping[str, Any]) -> None:
    """Share of the training examples in each group, over epochs."""
    epochs = [row["epoch"] for row in numbers["epochs"]]
    shares = [
        [100 * row["counts"][i] / numbers["n"] for row in numbers["epochs"]] for i in range(len(numbers["groups"]))
    ]
    with figure_at(path, f"training examples by adversarial loss ({numbers['attack']}), n = {numbers['n']}") as axes:
        colours = _shades(len(shares))
        if len(epochs) > 1:
            axes.stackplot(epochs, shares, colors=colours, labels=[f"{name} nats" for name in numbers["groups"]])
            axes.set_xlim(epochs[0], epochs[-1])
            _epochs(axes)
        else:
            axes.bar(numbers["groups"], [share[0] for share in shares], color=colours)
            axes.set_xlabel(f"adversarial loss after epoch {epochs[0]}, nats")
        axes.set_ylabel("training examples, %")
        if len(epochs) > 1:
            handles, labels = axes.get_legend_handles_labels()
            axes.figure.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=8)


def draw_label_noise(path: Path, numbers: Mapping[str, Any]) -> None:
    """Shares of the flipped examples predicted as the label given, the true one and another, on clean inputs."""
    rows = [row for row in numbers["rows"] if row["inputs"] == "clean"]
    names = [f"{row['track']}\n{row['checkpoint']}" for row in rows]
    with figure_at(path, f"training examples with a flipped label, n = {numbers['n']}") as axes:
        left = [0.0] * len(rows)
        for key, name, colour in (
            ("as_true", "predicted as the true label", "#009E73"),
            ("as_other", "as another", "#BBBBBB"),
            ("as_given", "as the flipped label: learned", "#D55E00"),
        ):
            shares = [100 * row[key] / max(1, numbers["n"]) for row in rows]
            axes.bar(names, shares, bottom=left, color=colour, label=name, width=0.7)
            left = [low + share for low, share in zip(left, shares, strict=True)]
        axes.set_ylabel("share, %")
        axes.tick_params(axis="x", labelsize=8)
        axes.figure.legend(loc="outside upper right", ncols=3, fontsize=8)


def draw_distance(path: Path, numbers: Mapping[str, Any]) -> None:
    """Relative distance of every layer group from the last weights, over epochs."""
    with figure_at(path, f"distance from the weights after epoch {numbers['last_epoch']}") as axes:
        epochs = [row["epoch"] for row in numbers["snapshots"]] + [numbers["last_epoch"]]
        for group, colour in zip(numbers["groups"], COLOURS * 9, strict=False):
            values = [row["to_last"][group]["relative"] for row in numbers["snapshots"]] + [0.0]
            axes.plot(epochs, _gaps(values), color=colour, marker="o", markersize=3, linewidth=1.6, label=group)
        _epochs(axes)
        axes.set_ylim(0, None)
        axes.set_ylabel("L2 distance over norm of the last weights")
        axes.legend(fontsize=8)


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


def _shades(count: int) -> list[Any]:
    return [matplotlib.colormaps[_ORDERED](0.95 * number / max(1, count - 1)) for number in range(count)]


def _epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epochs trained")


def _gaps(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1f}"


def _whose(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['track']}, {numbers['checkpoint']} (epoch {numbers['epoch']}), n = {numbers['n']}"
