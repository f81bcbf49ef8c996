"""Overrides of a config from the command line: ``key=value``, the value in YAML. Loads no torch."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from buttress.components.place import OVERRIDE, KeyPath
from buttress.config.schema import Config
from buttress.config.yaml_source import YamlSource, parse_yaml
from buttress.errors import ConfigError, nearest


def apply_override(source: YamlSource, override: str) -> YamlSource:
    """``source`` with one ``key=value`` applied; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("expected key=value, for example epochs=10 or pgd.steps=5", key=f"override {override!r}")
    place = f"{OVERRIDE}{override!r}"
    value = parse_yaml(text, place).value
    tree = copy.deepcopy(source.value)
    path = _resolve(tree, key.split("."), place)
    node = tree
    for part, below in itertools.pairwise(path):
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[part]
        plugins = isinstance(node, list) and isinstance(below, int)
        if not isinstance(node, dict) and not plugins:
            held = "is a list: override it as a whole" if isinstance(node, list) else "has no keys below it"
            raise ConfigError(f"{part!r} {held}", key=place)
    node[path[-1]] = value
    places = {other: line for other, line in source.places.items() if other[: len(path)] != path}
    places[path] = place
    return YamlSource(tree, source.name, places)


def _resolve(tree: dict[str, Any], parts: list[str], place: str) -> KeyPath:
    if parts[0] in Config.model_fields and parts[0] != "plugins":
        return tuple(parts)
    rest = parts[1:] if parts[0] == "plugins" else parts
    entries = tree.get("plugins")
    if parts == ["plugins"]:
        return ("plugins",)
    names = plugin_names(tree)
    if len(rest) < 2 and rest[0] in names:
        raise ConfigError(
            f"expected {rest[0]}.SETTING=value; to leave the plugin out, list the others: plugins=[...]", key=place
        )
    if rest[0] not in names:
        raise ConfigError(
            f"unknown key {'.'.join(parts)!r}{nearest(rest[0], {*Config.model_fields, *names})}", key=place
        )
    position = names.index(rest[0])
    assert isinstance(entries, list)
    if isinstance(entries[position], str):
        entries[position] = {rest[0]: {}}
    return ("plugins", position, *rest)


def plugin_names(tree: object) -> list[str]:
    """The names in the ``plugins`` of an unchecked config."""
    entries = tree.get("plugins") if isinstance(tree, dict) else None
    return [_entry_name(entry) for entry in entries] if isinstance(entries, list) else []


def _entry_name(entry: object) -> str:
    if isinstance(entry, dict) and len(entry) == 1:
        return str(next(iter(entry)))
    return str(entry)
