"""Digits recipes, cut short, on several ranks: the weights, tracks, scores and metrics of one process."""

from functools import cache
from pathlib import Path
from typing import Any

from buttress.config.file import load_config
from buttress.engine.world import World
from buttress.training.dataset import load_data

from ..recipe_files import cut_down, files_for, further_images
from .ranks import Ranks
from .runs import difference
from .small_runs import numbers_of, train_recipe

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "digits").glob("*.yaml"))
LARGEST = 1e-9
"""Largest difference between any number of a run on several ranks and that of one process, in float64."""
# 20 steps: four an epoch, the last of two examples, which is fewer than three ranks.
SHORT = [
    *("data.train_per_class=2", "data.validation=20", "data.batch_size=6", "epochs=5"),
    *("precision=float64", "model.batch_norm=sync", "evaluation.every=5", "evaluation.attack={pgd: {steps: 2}}"),
    *("checkpoint.every=5", "log_every=3"),
]


def difference_on(ranks: Ranks, recipe: Path, folder: Path) -> float:
    """Largest difference between the run on these ranks and that of one process; both lie in ``folder``."""
    overrides, one = _of_one_process(recipe, folder)
    run = ranks.call(train_recipe, recipe, overrides, folder / f"on-{ranks.size}")[0]
    return difference(numbers_of(run), one)


@cache
def _of_one_process(recipe: Path, folder: Path) -> tuple[list[str], dict[str, Any]]:
    overrides = _shortened(recipe, folder)
    return overrides, numbers_of(train_recipe(World(), recipe, overrides, folder / "alone"))


def _shortened(recipe: Path, folder: Path) -> list[str]:
    """Overrides for 20 steps on a narrow network, with the files that the recipe names."""
    config = load_config(recipe).config
    overrides = [*cut_down(config), *SHORT]
    if recipe.stem == "trades_ard_prm":  # with all patches masked x is its own neighbour: KL's gradient is rounding
        overrides.append("ard_prm.warmup=0")
    if config.data.extra is not None:
        overrides += further_images(config, folder) or ["data.unlabelled_per_class=2"]
    data, _ = load_data(load_config(recipe, overrides))
    return [*overrides, *files_for(recipe, overrides, data, folder)]
