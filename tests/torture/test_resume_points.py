"""Every built-in plugin and every digits recipe, stopped and resumed, equals its uninterrupted run.

``make torture`` stops each at twelve points. Here a plugin with a state of its own has every second one, any other has
every sixth one, and a recipe one in the middle of an epoch; by turns, so that no point is left out.
"""

from pathlib import Path

import pytest

from tests.plugins.catalogue import CATALOGUE

from .resume_points import DIGITS, POINTS, differences, digits_config, plugin_config

PLUGINS = {
    name: POINTS[number % 2 :: 2] if row.stateful else POINTS[number % 6 :: 6]
    for number, (name, row) in enumerate(CATALOGUE.items())
}
RECIPES = {recipe.stem: (recipe, (6, 9)[number % 2]) for number, recipe in enumerate(DIGITS)}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_stopped_and_resumed_equals_the_uninterrupted_run(tmp_path: Path, name: str):
    assert differences(plugin_config(tmp_path, name), tmp_path, PLUGINS[name]) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_digits_recipe_resumed_in_the_middle_of_an_epoch_equals_the_uninterrupted_run(tmp_path: Path, name: str):
    recipe, point = RECIPES[name]
    assert differences(digits_config(recipe, tmp_path), tmp_path, [point]) == []
