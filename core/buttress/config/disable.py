"""``disable`` in a config: plugins and loggers left out of a run, for an ablation or a comparison. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from buttress.components.place import KeyPath, Place
from buttress.components.sources import find, matches
from buttress.config.component_section import path_of
from buttress.config.schema import Config
from buttress.config.yaml_source import YamlSource
from buttress.errors import ConfigError, PluginError, nearest

LISTS = {"plugins": "plugin", "loggers": "logger"}
"""Section to the kind of its entries: components that can be left out."""


@dataclass(frozen=True)
class Choice:
    """A component that a config names, and the path of its name."""

    path: KeyPath
    kind: str
    name: str


def apply_disable(source: YamlSource, config: Config) -> tuple[YamlSource, Config, list[str]]:
    """Leave out the plugins and loggers that ``disable`` names, and say their names.

    A word of ``disable`` is the name of a component, that of a distribution, or ``dist:name``.

    Args:
        source: the parsed file.
        config: the same, checked.

    Raises:
        ConfigError: a word that names nothing of the config, with the nearest; a component that a run needs; or the
            last plugin.
    """
    if not config.disable:
        return source, config, []
    listed = [
        Choice((section, position), kind, next(iter(entry)))
        for section, kind in LISTS.items()
        for position, entry in enumerate(getattr(config, section))
    ]
    place = source.place / "disable"
    for position, word in enumerate(config.disable):
        _expect_dispensable(word, place / position, listed, _needed(config))
    left_out = {choice.path: choice.name for choice in listed if any(_matches(word, choice) for word in config.disable)}
    if all(("plugins", position) in left_out for position in range(len(config.plugins))):
        raise ConfigError("expected at least one plugin that is left, got none; take a word out of disable", key=place)
    return _source_without(source, left_out), _config_without(config, left_out), list(left_out.values())


def _needed(config: Config) -> list[Choice]:
    """The components that a config names and that a run cannot do without."""
    attack = Choice(("evaluation", "attack"), "attack", next(iter(config.evaluation.attack)))
    sections: tuple[tuple[KeyPath, str, str | None], ...] = (
        (("data",), "dataset", config.data.name),
        *((path_of(name), "dataset", section.name) for name, section in config.data.extras.items()),
        (("model",), "model", config.model.name),
        (("schedule",), "schedule", config.schedule.name),
    )
    return [attack, *(Choice((*section, "name"), kind, name) for section, kind, name in sections if name)]


def _expect_dispensable(word: str, place: Place, listed: Sequence[Choice], needed: Sequence[Choice]) -> None:
    for choice in needed:
        if _matches(word, choice):
            key = ".".join(map(str, choice.path))
            raise ConfigError(
                f"{word!r} means {choice.kind} {choice.name!r} of {key}, which a run cannot do without; "
                "choose another one there",
                key=place,
            )
    if not any(_matches(word, choice) for choice in listed):
        hint = nearest(word, {choice.name for choice in [*listed, *needed]})
        raise ConfigError(f"{word!r} means none of the config's plugins and loggers{hint}", key=place)


def _matches(word: str, choice: Choice) -> bool:
    distribution, _, short = choice.name.rpartition(":")
    if canonicalize_name(word) in (canonicalize_name(choice.name), canonicalize_name(short)):
        return True
    with suppress(PluginError):  # of a plugins_file, or unknown, or claimed twice: then the config's own words decide
        distribution = find(choice.kind, choice.name).distribution
    return bool(distribution) and matches(word, short, distribution)


def _config_without(config: Config, left_out: Collection[KeyPath]) -> Config:
    """The checked config without these entries."""
    lists = {section: _left(getattr(config, section), section, left_out) for section in LISTS}
    return config.model_copy(update={**lists, "disable": []})


def _source_without(source: YamlSource, left_out: Collection[KeyPath]) -> YamlSource:
    """The file without these entries; those behind them move up, and their places with them."""
    value, places = {**source.value, "disable": []}, dict(source.places)
    for section in LISTS:
        entries = source.value.get(section) or []
        kept = _left(range(len(entries)), section, left_out)
        if len(kept) == len(entries):
            continue
        value[section] = [entries[position] for position in kept]
        places = {path: place for path, place in places.items() if path[:1] != (section,) or len(path) == 1}
        for new, old in enumerate(kept):
            places |= _moved(source.places, (section, old), (section, new))
    return YamlSource(value, source.name, places)


def _left(entries: Sequence[Any], section: str, left_out: Collection[KeyPath]) -> list[Any]:
    return [entry for position, entry in enumerate(entries) if (section, position) not in left_out]


def _moved(places: Mapping[KeyPath, str], old: KeyPath, new: KeyPath) -> dict[KeyPath, str]:
    """The places of an entry, at its new position."""
    return {(*new, *path[2:]): place for path, place in places.items() if path[:2] == old}
