"""Whether everything that a config names is there, asked before anything is imported or loaded. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from buttress.components.requirements import check_requirements
from buttress.components.sources import find, serves_as, usable_names
from buttress.config.component_section import path_of
from buttress.errors import PluginError, all_faults

if TYPE_CHECKING:
    from buttress.components.place import Place
    from buttress.config.file import ConfigFile


def expect_known_names(file: ConfigFile) -> None:
    """Expect that every component which a config names is installed, or stands in its ``plugins_file``.

    Raises:
        PluginError: names every component that is unknown, claimed by several distributions, incompatible or disabled;
            or the ``plugins_file`` cannot be executed.
        ConfigError: a distribution that the config requires is not there.
    """
    check_requirements(file.config.requires, file.place / "requires")
    local = file.own.components
    faults: list[tuple[Place, str]] = []
    for kind, name, place in _names(file):
        try:
            if name not in local or not serves_as(kind, local[name][1]):
                find(kind, name, local=usable_names(kind, local))
        except PluginError as problem:
            faults.append((place, str(problem)))
    if faults:
        raise all_faults(faults, PluginError)


def _names(file: ConfigFile) -> Iterator[tuple[str, str, Place]]:
    """Kind, name and place of every component, in the order of a config."""
    config, place = file.config, file.place
    sections = {"data": config.data, **config.data.extras}
    for section, chosen in {**sections, "model": config.model, "schedule": config.schedule}.items():
        if chosen.name is not None:
            kind = section if section in ("model", "schedule") else "dataset"
            yield kind, chosen.name, place.under(*path_of(section), "name")
    for kind in ("plugin", "logger"):
        for position, entry in enumerate(getattr(config, f"{kind}s")):
            for name in entry:
                yield kind, name, place.under(f"{kind}s", position, name)
    for name in config.evaluation.attack:
        yield "attack", name, place.under("evaluation", "attack", name)
