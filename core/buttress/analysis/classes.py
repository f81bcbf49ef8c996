"""Accuracy class by class: robust accuracy hides that some classes are lost long before others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Classes that a figure or a table shows, at most; the JSON file has all.
MOST_SHOWN = 30


def right_by_class(predicted: Tensor, labels: Tensor, num_classes: int) -> list[int]:
    """Number of examples of each of K classes that are predicted correctly, from ``[n]`` predictions and labels."""
    return torch.bincount(labels[predicted == labels], minlength=num_classes).tolist()


def hardest(numbers: Mapping[str, Any]) -> list[int]:
    """The classes to show, in their order: all of few, else those that the live model gets right least, attacked."""
    sizes, live = numbers["sizes"], numbers["rows"][0]["attacked"]
    there = [number for number, size in enumerate(sizes) if size]
    return sorted(sorted(there, key=lambda number: live[number] / sizes[number])[:MOST_SHOWN])


def draw_classes(path: Path, numbers: Mapping[str, Any]) -> None:
    """Accuracy of every class under attack, at the best and the last weights of every track."""
    from buttress.analysis.pictures import figure_at
    from buttress.training.curves import COLOURS

    shown = hardest(numbers)
    with figure_at(path, f"test accuracy by class under {numbers['attack']}, n = {numbers['n']}") as axes:
        tracks = list(dict.fromkeys(row["track"] for row in numbers["rows"]))
        for row in numbers["rows"]:
            colour, best = COLOURS[tracks.index(row["track"]) % len(COLOURS)], row["checkpoint"] == "best"
            shares = [100 * row["attacked"][number] / numbers["sizes"][number] for number in shown]
            label, marker = f"{row['track']}, {row['checkpoint']}", "*" if best else "o"
            axes.plot(range(len(shown)), shares, marker, color=colour, markersize=10 if best else 6, label=label)
        axes.set_xticks(range(len(shown)), [str(number) for number in shown])
        axes.set_xlabel("class")
        axes.set_ylabel("accuracy under attack, %")
        axes.set_ylim(0, 100)
        axes.legend(fontsize=8)
