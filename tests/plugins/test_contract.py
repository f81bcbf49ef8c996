"""Every built-in plugin has its file, row, literal form and recipe; the promises are in ``tests/testing``."""

import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import recipes
import yaml

from buttress.components.loaded import load_plugins
from buttress.components.signature import documentation_of, signature_of
from buttress.components.sources import GROUPS
from buttress.errors import ConfigError, PluginError

from ..conformance import references
from .catalogue import ATTACKS, CATALOGUE

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"

POINTS = {point.name: point for group in ("plugins", "attacks") for point in entry_points(group=f"buttress.{group}")}
BUILT_IN = {name: point for name, point in POINTS.items() if point.value.startswith("buttress_plugins.")}
TRAINING = {point.name for point in entry_points(group="buttress.plugins")}

every = pytest.mark.parametrize("name", CATALOGUE)


def test_the_catalogue_holds_every_built_in_plugin_and_no_other():
    assert set(CATALOGUE) == set(BUILT_IN) & TRAINING
    assert set(CATALOGUE) | set(ATTACKS) == set(BUILT_IN)


def test_every_file_of_plugins_has_an_entry_point():
    files = {path.relative_to(PLUGINS) for path in PLUGINS.glob("buttress_plugins/*/*.py") if path.stem != "__init__"}
    named = {point.module for group in GROUPS.values() for point in entry_points(group=group)}
    assert [str(path) for path in sorted(files) if ".".join(path.with_suffix("").parts) not in named] == []


def holds(stack: list[Any], name: str) -> bool:
    """Whether a stack has the plugin; entries that depend on the network are functions."""
    entries = [entry(True) if callable(entry) else entry for entry in stack]
    return any(name == entry or (isinstance(entry, dict) and name in entry) for entry in entries)


@every
def test_a_row_has_what_the_plugin_costs_and_its_literal_form(name: str):
    row = CATALOGUE[name]
    assert row.costs
    assert row.references
    assert all(holds(stack, name) for stack, _ in row.costs[:1])
    assert all(holds(case.stack, name) for case in row.references.values())
    for case in row.references.values():
        assert inspect.getmodule(case.step).__name__.startswith(references.__name__)


def measured() -> set[str]:
    """Plugins of the runs on digits that ``make compare`` and ``make demo`` make."""
    files = [ROOT / "configs" / path for path in ("demo.yaml", *recipes.measured())]
    stacks = [yaml.safe_load(file.read_text(encoding="utf-8"))["plugins"] for file in files]
    return {entry if isinstance(entry, str) else next(iter(entry)) for stack in stacks for entry in stack}


@every
def test_a_plugin_is_in_a_recipe_on_digits_that_is_measured(name: str):
    # The default loss needs no entry, and kd needs the weights of two other runs.
    assert name in measured() | {"cross_entropy", "kd"}


@pytest.mark.parametrize("group", ["models", "datasets"])
def test_every_setting_of_models_and_data_sets_is_documented(group: str):
    points = [p for p in entry_points(group=f"buttress.{group}") if p.value.startswith("buttress_plugins.")]
    assert points
    for point in points:
        component = point.load()
        assert list(documentation_of(component)) == [parameter.name for parameter in signature_of(component)], (
            point.name
        )


@every
def test_a_state_is_declared_where_there_is_one(name: str):
    assert hasattr(BUILT_IN[name].load(), "state_dict") == CATALOGUE[name].stateful
    assert hasattr(BUILT_IN[name].load(), "load_state_dict") == CATALOGUE[name].stateful


@pytest.mark.parametrize(
    ("name", "settings"), [(name, wrong) for name, row in CATALOGUE.items() for wrong in row.wrong], ids=str
)
def test_a_wrong_setting_is_refused_with_its_name(name: str, settings: dict[str, Any]):
    (key,) = settings
    with pytest.raises((ConfigError, PluginError), match=rf"(?m)^plugins\.0\.{name}\.{key}: "):
        load_plugins([{name: settings}], given={"num_classes": 3})
