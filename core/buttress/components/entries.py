"""Entries of a config: a component's name, or its name with settings. Loads no torch."""

import re
from collections.abc import Mapping
from typing import Any

from buttress.components.place import Place
from buttress.components.sources import sources
from buttress.errors import ConfigError


def entry_of(entry: object, place: Place | None = None) -> tuple[str, dict[str, Any]]:
    """``"pgd"`` or ``{"pgd": {...}}`` as name and settings."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, settings),) = entry.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return name, dict(settings or {})
    raise ConfigError(f"expected a name or 'name: {{settings}}', got {entry!r}", key=place or "")


def attack_entry_of(entry: object, place: Place | None = None) -> tuple[str, dict[str, Any]]:
    """As ``entry_of``, for an attack of evaluations: ``"pgd-20"`` is ``pgd`` with 20 steps.

    Raises:
        ConfigError: no such entry, or steps beside a number of steps in the name.
    """
    name, settings = entry_of(entry, place)
    counted = re.fullmatch(r"(.+)-([0-9]{1,9})", name)
    if counted is None or any(source.name == name.rpartition(":")[2] for source in sources("attack")):
        return name, settings
    if "steps" in settings:
        raise ConfigError(
            f"{name} says the number of steps, and steps says it again; leave out one of them", key=place or ""
        )
    return counted[1], {"steps": int(counted[2]), **settings}
