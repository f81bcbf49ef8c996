"""What ``buttress plugins check`` examines: an installed plugin or logger, those in a file, or those of a package."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress.discovery.plugins_file import read_plugins_file
from buttress.errors import ConfigError, PluginError, nearest
from buttress.registry import GROUPS, HOOKED, Local, Source, find_any, load
from buttress.yaml_source import parse_yaml

if TYPE_CHECKING:
    from buttress.testing import Subject


def subjects_of(target: str, words: Sequence[str] = ()) -> list[Subject]:
    """The plugins that ``target`` means, with their settings.

    Args:
        target: the name of an installed plugin, a ``.py`` file, or the folder of a package (with a ``pyproject.toml``).
        words: ``key=value`` for one plugin, or ``name.key=value``.

    Raises:
        PluginError, ConfigError: there is no such plugin, it cannot be imported, or the settings are wrong.
    """
    from buttress.testing import Subject

    found = _found(target)
    settings = _settings(words, list(found))
    return [Subject(component, settings[name], name, source) for name, (component, source) in found.items()]


def _found(target: str) -> Local:
    path = Path(target)
    if path.suffix == ".py":
        return read_plugins_file(path).plugins
    if path.is_dir():
        return _package(path)
    if "/" in target:
        raise PluginError(f"{target}: no such file or folder")
    source = find_any(target, HOOKED)
    return {source.name: (load(source), source)}


def _package(folder: Path) -> Local:
    """The plugins and loggers that a package's ``pyproject.toml`` names, from its own files, installed or not."""
    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError) as problem:
        raise PluginError(f"{path}: cannot be read: {problem}") from None
    groups: Mapping[str, Mapping[str, str]] = project.get("entry-points", {})
    points = {name: (kind, value) for kind in HOOKED[::-1] for name, value in groups.get(GROUPS[kind], {}).items()}
    if not points:
        expected = " or ".join(f'[project.entry-points."{GROUPS[kind]}"]' for kind in HOOKED)
        raise PluginError(f"{path}: names no plugin; expected {expected}")
    for place in (folder / "src", folder):
        sys.path.insert(0, str(place.resolve()))
    found = {}
    for name, (kind, value) in points.items():
        source = Source(kind, name, value, project.get("name", folder.name), str(project.get("version", "?")))
        component = load(source)
        file = Path(sys.modules[EntryPoint(name, value, GROUPS[kind]).module].__file__ or "")
        if not file.resolve().is_relative_to(folder.resolve()):
            raise PluginError(f"{path}: entry point {value} is not in this folder: {file} came first")
        found[name] = (component, source)
    return found


def _settings(words: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    for word in words:
        key, equals, text = word.partition("=")
        owner, dot, setting = key.rpartition(".")
        if not dot and len(names) == 1:
            owner, setting = names[0], key
        if not equals or owner not in settings or not setting:
            hint = nearest(owner, names) if dot else f"; plugins here: {', '.join(names)}"
            raise ConfigError(f"{word!r}: expected key=value, or plugin.key=value{hint}")
        settings[owner][setting] = parse_yaml(text, repr(word)).value
    return settings
