"""Every digits recipe on two and on three processes, which has to come to the numbers of one."""

import random
from pathlib import Path

from ..world.ranks import Ranks
from ..world.recipes import LARGEST, RECIPES, difference_on
from .report import Section

SIZES = (2, 3)


def section(work: Path, rng: random.Random) -> Section:
    differences: dict[tuple[str, int], float] = {}
    crews = [Ranks(size) for size in SIZES]
    try:
        for recipe in RECIPES:
            folder = work / recipe.stem
            folder.mkdir()
            for ranks in crews:
                differences[recipe.stem, ranks.size] = difference_on(ranks, recipe, folder)
    finally:
        for ranks in crews:
            ranks.close()
    lost = [
        f"digits/{name} on {size} processes: {away:.2g} from the numbers of one"
        for (name, size), away in differences.items()
        if not away < LARGEST
    ]
    return Section(
        "Several processes",
        "Every digits recipe, cut down to 20 steps in float64 with batch norm over all processes, the last batch of an "
        "epoch of two examples, trained by two and by three processes. Compared with one process: the weights of every "
        "track, evaluations and metrics, which may differ by less than 1e-9.",
        [
            ("digits recipes", len(RECIPES)),
            ("runs on several processes", len(differences)),
            ("largest difference", f"{max(differences.values()):.1e}"),
            ("runs that differ", len(lost)),
        ],
        lost,
    )
