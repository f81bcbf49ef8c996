"""``disable`` in a config: plugins that are left out of a run, for an ablation or a comparison. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from buttress.errors import ConfigError, PluginError, nearest
from buttress.registry import entry_of, find, means
from buttress.yaml_source import Path_, Source


def without_disabled(source: Source) -> tuple[Source, list[str]]:
    """The config without those of its ``plugins`` that its ``disable`` means, and their names.

    A word of ``disable`` is the name of a plugin, that of a distribution, or ``dist:name``.

    Raises:
        ConfigError: a word that means none of the plugins, with the nearest.
    """
    words: Sequence[str] = source.value.get("disable") or []
    if not words:
        return source, []
    names = [entry_of(entry, source.where(("plugins",)))[0] for entry in source.value["plugins"]]
    meant = [{word for word in words if _means(word, name)} for name in names]
    for position, word in enumerate(words):
        if not any(word in each for each in meant):
            place = source.where(("disable", position))
            raise ConfigError(f"{place}: {word!r} means none of the config's plugins{nearest(word, names)}")
    kept = [position for position, each in enumerate(meant) if not each]
    value = {**source.value, "plugins": [source.value["plugins"][position] for position in kept], "disable": []}
    places = {path: place for path, place in source.places.items() if path[:1] != ("plugins",) or len(path) == 1}
    for new, old in enumerate(kept):
        places |= _moved(source, old, new)
    return Source(value, source.name, places), [name for name, each in zip(names, meant, strict=True) if each]


def _means(word: str, name: str) -> bool:
    distribution, _, short = name.rpartition(":")
    if word in (name, short):
        return True
    with suppress(PluginError):  # of a plugins_file, or unknown, or claimed twice: then the config's own words decide
        distribution = find("plugin", name).distribution
    return bool(distribution) and means(word, short, distribution)


def _moved(source: Source, old: int, new: int) -> dict[Path_, str]:
    """The places of entry number ``old`` of the plugins, under the number ``new``."""
    return {("plugins", new, *path[2:]): place for path, place in source.places.items() if path[:2] == ("plugins", old)}
