"""Every built-in plugin and every digits recipe, stopped and resumed, equals its uninterrupted run."""

from pathlib import Path

import pytest

from tests.plugins.catalogue import CATALOGUE

from .resume_points import DIGITS, differences, digits_config, plugin_config


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_plugin_resumed_at_twelve_points_equals_the_uninterrupted_run(tmp_path: Path, name: str):
    assert differences(plugin_config(tmp_path, name), tmp_path) == []


@pytest.mark.parametrize("recipe", DIGITS, ids=lambda path: path.stem)
def test_a_digits_recipe_resumed_in_the_middle_of_an_epoch_equals_the_uninterrupted_run(tmp_path: Path, recipe: Path):
    assert differences(digits_config(recipe, tmp_path), tmp_path, (6, 9)) == []
