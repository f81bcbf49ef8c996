"""What every built-in plugin owes to its table; the promises of all plugins are in ``tests/testing``."""

from importlib.metadata import entry_points
from typing import Any

import pytest

from buttress.components.loaded import load_plugins
from buttress.components.signature import documentation_of, signature_of
from buttress.errors import ConfigError, PluginError

from .catalogue import ATTACKS, CATALOGUE

POINTS = {point.name: point for group in ("plugins", "attacks") for point in entry_points(group=f"buttress.{group}")}
BUILT_IN = {name: point for name, point in POINTS.items() if point.value.startswith("buttress_plugins.")}
TRAINING = {point.name for point in entry_points(group="buttress.plugins")}

every = pytest.mark.parametrize("name", CATALOGUE)


def test_the_catalogue_holds_every_built_in_plugin_and_no_other():
    assert set(CATALOGUE) == set(BUILT_IN) & TRAINING
    assert set(CATALOGUE) | set(ATTACKS) == set(BUILT_IN)


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
    ("name", "settings"), [(name, wrong) for name, entry in CATALOGUE.items() for wrong in entry.wrong], ids=str
)
def test_a_wrong_setting_is_refused_with_its_name(name: str, settings: dict[str, Any]):
    (key,) = settings
    with pytest.raises((ConfigError, PluginError), match=rf"^plugins\.0\.{name}\.{key}: "):
        load_plugins([{name: settings}], given={"num_classes": 3})
