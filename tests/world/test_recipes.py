"""A few digits recipes on several ranks; ``make torture`` takes all of them, on two and on three."""

from pathlib import Path

import pytest

from .ranks import Ranks
from .recipes import LARGEST, RECIPES, difference_on

FEW = ("amp", "cfa", "meat_idbh", "rst_rwp", "trades_ard_prm")
CASES = [pytest.param(2 + number % 2, name, id=name) for number, name in enumerate(FEW)]


@pytest.mark.parametrize(("ranks", "name"), CASES, indirect=["ranks"])
def test_a_recipe_gives_the_numbers_of_one_process(ranks: Ranks, name: str, tmp_path: Path):
    (recipe,) = [each for each in RECIPES if each.stem == name]
    assert difference_on(ranks, recipe, tmp_path) < LARGEST
