"""Groups of the rows of a comparison, by the hooks of the plugins that a row has and its baseline lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttress.comparing.comparison import Comparison
from buttress.components.source_hooks import hooks_in_source
from buttress.components.sources import sources
from buttress.hookspecs import TITLES, main_hook

SEVERAL, MODEL, SETTINGS, OTHER = "several of these", "another model", "other settings", "other plugins"
ORDER = (*TITLES.values(), SEVERAL, MODEL, SETTINGS, OTHER)
"""Groups in the order in which they are shown."""


def groups_of(comparison: Comparison, configs: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """The group of every row that has a baseline, by its label and track.

    A row with another model than its baseline is in the group ``another model``, whatever its plugins. An ensemble
    counts in the row of its own track alone.

    Args:
        comparison: comparison with the rows.
        configs: label of a variant to its config.
    """
    tracks: dict[str, set[str]] = {}
    for row in comparison.rows:
        tracks.setdefault(row.label, set()).add(row.track)
    groups = {}
    for row in comparison.rows:
        if (base := comparison.baseline_of(row)) is not None:
            config, other = configs[row.label], configs[base.label]
            plugins = _part_of(config, row.track, tracks[row.label]) - _part_of(other, "live", tracks[base.label])
            groups[row.label, row.track] = MODEL if config["model"] != other["model"] else _group(plugins)
    return groups


def _part_of(config: Mapping[str, Any], track: str, tracks: set[str]) -> set[str]:
    """The plugins that have a part in a track: all, but for the ensembles of the other tracks."""
    plugins = dict(_entry(each) for each in config["plugins"])
    given = {name: settings.get("track", name) for name, settings in plugins.items()}
    return {name for name, own in given.items() if own == track or own not in tracks}


def _entry(entry: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and settings of an entry of ``plugins``."""
    if isinstance(entry, str):
        return entry, {}
    ((name, settings),) = entry.items()
    return name, settings or {}


def _group(plugins: set[str]) -> str:
    titles = set(map(_title, plugins))
    if not titles:
        return SETTINGS
    return titles.pop() if len(titles) == 1 else SEVERAL


def _title(plugin: str) -> str:
    """The title of a plugin's main hook; of one whose hooks are not known without importing it, ``other plugins``."""
    short = plugin.rpartition(":")[2]
    targets = [source.target for source in sources("plugin") if source.name == short]
    hooks = hooks_in_source(targets[0]) if targets else None
    return TITLES.get(main_hook(hooks or ()), OTHER)
