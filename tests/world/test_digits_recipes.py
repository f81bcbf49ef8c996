"""Every digits recipe, cut short, on two or on three ranks: the weights, tracks, scores and metrics of one process."""

from functools import cache
from pathlib import Path

import pytest

from buttress.config.file import load_config
from buttress.engine.world import World
from buttress.training.dataset import load_data

from ..recipe_files import cut_down, files_for
from .ranks import Ranks
from .runs import difference
from .small_runs import numbers_of, train_recipe

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "digits").glob("*.yaml"))
# 20 steps: four an epoch, the last of two examples, which is fewer than three ranks.
SHORT = [
    *("data.train_per_class=2", "data.validation=20", "data.batch_size=6", "epochs=5"),
    *("precision=float64", "model.batch_norm=sync", "evaluation.every=5", "evaluation.attack={pgd: {steps: 2}}"),
    *("checkpoint.every=5", "log_every=3"),
]


def shortened(recipe: Path, folder: Path) -> list[str]:
    """Overrides for 20 steps on a narrow network, with the files that the recipe names."""
    config = load_config(recipe).config
    overrides = [*cut_down(config), *SHORT]
    if recipe.stem == "trades_ard_prm":  # with all patches masked x is its own neighbour: KL's gradient is rounding
        overrides.append("ard_prm.warmup=0")
    if config.data.extra is not None:
        overrides.append("data.unlabelled_per_class=2")
    data, _ = load_data(load_config(recipe, overrides))
    return [*overrides, *files_for(recipe, overrides, data, folder)]


@cache
def alone(recipe: Path, folder: Path) -> tuple[list[str], dict]:
    overrides = shortened(recipe, folder)
    return overrides, numbers_of(train_recipe(World(), recipe, overrides, folder / "alone"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    return {recipe: tmp_path_factory.mktemp(recipe.stem) for recipe in RECIPES}


@pytest.mark.parametrize(
    ("ranks", "recipe"),
    [pytest.param(2 + number % 2, recipe, id=recipe.stem) for number, recipe in enumerate(RECIPES)],
    indirect=["ranks"],
)
def test_a_recipe_gives_the_numbers_of_one_process(ranks: Ranks, recipe: Path, folders: dict[Path, Path]):
    overrides, one = alone(recipe, folders[recipe])
    run = ranks.call(train_recipe, recipe, overrides, folders[recipe] / f"on-{ranks.size}")[0]
    assert difference(numbers_of(run), one) < 1e-9
