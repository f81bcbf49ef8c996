"""Resolve relative paths of a config's data and weights: beside the config first, then in the working folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buttress.components.place import KeyPath
from buttress.components.signature import path_settings
from buttress.components.sources import find, load
from buttress.config.component_section import ComponentSection, path_of
from buttress.config.file import ConfigFile
from buttress.errors import DataError, PluginError
from buttress.storage.user_path import user_path


@dataclass(frozen=True)
class RelativePath:
    """A relative path of a config.

    Args:
        name: name of the setting.
        text: path as the config has it.
        folders: folders in which it is looked up, in that order.
        recorded: path in the config of a run: the text, relative to the key ``folder``, or an absolute path.
    """

    name: str
    text: str
    folders: Sequence[Path]
    recorded: str

    @property
    def resolved(self) -> Path:
        """The path in the first of the folders that holds it; if none does, in the first folder."""
        places = [folder / self.text for folder in self.folders]
        return next((place for place in places if place.exists()), places[0])

    @property
    def shortest(self) -> Path:
        """The text of the config, if it leads to the resolved path from the working folder; else the resolved path."""
        return Path(self.text) if self.resolved == Path.cwd() / self.text else self.resolved

    def is_in(self, folder: Path) -> bool:
        """Whether the resolved path exists and lies in ``folder``."""
        return self.resolved == folder / self.text and self.resolved.exists()


def relative_paths(file: ConfigFile) -> list[RelativePath]:
    """The relative paths in the settings of all data sets of the config, see ``relative_paths_of``."""
    extras = {name: section for name, section in file.config.data.extras.items() if not section.is_own}
    sections: dict[str, ComponentSection] = {"data": file.config.data, **extras}
    return [path for name, section in sections.items() for path in relative_paths_of(file, name, section)]


def relative_paths_of(file: ConfigFile, name: str, section: ComponentSection) -> list[RelativePath]:
    """The relative paths among those settings of a data set that are declared as a ``Path`` and given in the config.

    Args:
        file: the config.
        name: name of the section: ``data``, ``data.extra`` or ``data.extra.0``.
        section: section of the data set.

    Raises:
        InputError: the data set does not exist, or cannot be imported.
    """
    key = path_of(name)
    place = file.place.under(*key)
    component: Any
    if section.target is None:
        component = load(find("dataset", str(section.name), place / "name"))
    else:
        key = (*key, "args")
        component = file.own.imported(name, place / "target", DataError)
    given = section.given()
    try:
        names = path_settings(component)
    except (PluginError, TypeError, ValueError):  # an error follows when it is made
        return []
    return [
        _relative(file, (*key, name), str(given[name]))
        for name in names
        if isinstance(given.get(name), str) and not user_path(given[name]).is_absolute()
    ]


def weights_path(file: ConfigFile) -> RelativePath | None:
    """The path of the weights to start from, where the config gives a relative one."""
    given = file.config.model.weights
    if given is None or user_path(given.file).is_absolute():
        return None
    return _relative(file, ("model", "weights", "file"), given.file)


def _relative(file: ConfigFile, key: KeyPath, text: str) -> RelativePath:
    name = str(key[-1])
    if file.source.is_overridden(key):  # as every path of a command line
        here = Path.cwd()
        return RelativePath(name, text, [here], text if here == file.folder else str(here / text))
    return RelativePath(name, text, list(dict.fromkeys([file.folder, Path.cwd()])), text)


def where_looked(paths: Sequence[RelativePath]) -> str:
    """The end of a message about data that do not load: the folders in which missing paths were looked up."""
    return "".join(
        f"; {path.name} is {path.text}, which was looked up in {' and in '.join(map(str, path.folders))}"
        for path in paths
        if not path.resolved.exists()
    )
