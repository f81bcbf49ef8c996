"""``disable`` in a config: what is left out of a run, for an ablation or a comparison. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from buttress.components.entries import entry_of
from buttress.components.sources import find, matches
from buttress.config.yaml_source import Path_, Source
from buttress.errors import ConfigError, PluginError, nearest

LISTS = {"plugins": "plugin", "loggers": "logger"}
"""Section to the kind of its entries: what can be left out."""


@dataclass(frozen=True)
class Choice:
    """A component that a config names, and where."""

    path: Path_
    kind: str
    name: str


def without_disabled(source: Source, needed: Sequence[Choice]) -> tuple[Source, list[str]]:
    """The config without those of its ``plugins`` and ``loggers`` that its ``disable`` means, and their names.

    A word of ``disable`` is the name of a component, that of a distribution, or ``dist:name``.

    Args:
        source: the config.
        needed: the components that a run cannot do without.

    Raises:
        ConfigError: a word that means nothing of the config, with the nearest; or something that is needed.
    """
    words: Sequence[str] = source.value.get("disable") or []
    if not words:
        return source, []
    listed = [
        Choice((section, position), kind, entry_of(entry, source.where((section, position)))[0])
        for section, kind in LISTS.items()
        for position, entry in enumerate(source.value.get(section) or [])
    ]
    for position, word in enumerate(words):
        _expect_dispensable(word, source.where(("disable", position)), listed, needed)
    left_out = {choice.path: choice.name for choice in listed if any(_matches(word, choice) for word in words)}
    return _without(source, left_out), list(left_out.values())


def _expect_dispensable(word: str, place: str, listed: Sequence[Choice], needed: Sequence[Choice]) -> None:
    for choice in needed:
        if _matches(word, choice):
            key = ".".join(map(str, choice.path))
            raise ConfigError(
                f"{place}: {word!r} means {choice.kind} {choice.name!r} of {key}, which a run cannot do without; "
                "choose another one there"
            )
    if not any(_matches(word, choice) for choice in listed):
        hint = nearest(word, {choice.name for choice in [*listed, *needed]})
        raise ConfigError(f"{place}: {word!r} means none of the config's plugins and loggers{hint}")


def _matches(word: str, choice: Choice) -> bool:
    distribution, _, short = choice.name.rpartition(":")
    if canonicalize_name(word) in (canonicalize_name(choice.name), canonicalize_name(short)):
        return True
    with suppress(PluginError):  # of a plugins_file, or unknown, or claimed twice: then the config's own words decide
        distribution = find(choice.kind, choice.name).distribution
    return bool(distribution) and matches(word, short, distribution)


def _without(source: Source, left_out: Mapping[Path_, str]) -> Source:
    """The config without these entries; those behind them move up, and their places with them."""
    value = {**source.value, "disable": []}
    places = dict(source.places)
    for section in LISTS:
        entries = source.value.get(section) or []
        kept = [position for position in range(len(entries)) if (section, position) not in left_out]
        if len(kept) == len(entries):
            continue
        value[section] = [entries[position] for position in kept]
        places = {path: place for path, place in places.items() if path[:1] != (section,) or len(path) == 1}
        for new, old in enumerate(kept):
            places |= _moved(source, (section, old), (section, new))
    return Source(value, source.name, places)


def _moved(source: Source, old: Path_, new: Path_) -> dict[Path_, str]:
    """The places of an entry, where it stands now."""
    return {(*new, *path[2:]): place for path, place in source.places.items() if path[:2] == old}
