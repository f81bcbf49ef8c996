"""Built-in components declare their settings as the fields of a dataclass, each default beside its type."""

from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points

import pytest

from buttress.components.signature import signature_of

CLASSES = {
    point.value: point
    for kind in ("plugins", "attacks", "datasets", "loggers")
    for point in entry_points(group=f"buttress.{kind}")
    if point.value.startswith("buttress_plugins.")
}


@pytest.mark.parametrize("point", CLASSES.values(), ids=CLASSES.keys())
def test_settings_are_the_fields_of_a_dataclass_without_equality(point: EntryPoint):
    component = point.load()
    if signature_of(component):
        assert is_dataclass(component)
    assert component.__eq__ is object.__eq__  # pluggy compares plugins with ==
