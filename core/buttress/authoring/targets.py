"""What ``buttress plugins check`` is pointed at: something installed, a file of plugins, or the folder of a package."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress.components.members import hooks_in
from buttress.discovery.plugins_file import read_plugins_file
from buttress.errors import ConfigError, PluginError, nearest
from buttress.hookspecs import makes_logger
from buttress.registry import GROUPS, HOOKED, Source, find, load, means, sources
from buttress.storage.user_path import user_path
from buttress.yaml_source import parse_yaml

if TYPE_CHECKING:
    from buttress.testing import Subject

# What is wrong with anything else.
_EXAMINED = (
    "promises are those of plugins, attacks and loggers (--kind); a model, a data set or a schedule is tried by "
    "buttress config validate"
)

Found = list[tuple[str, Any, Source]]
"""Kind, class and source."""


def subjects_of(target: str, words: Sequence[str] = (), kind: str | None = None) -> list[Subject]:
    """The plugins, attacks and loggers that ``target`` means, with their settings.

    Args:
        target: the name of something installed, a ``.py`` file, or the folder of a package (with a ``pyproject.toml``).
        words: ``key=value`` for one plugin, or ``name.key=value``.
        kind: ``plugin``, ``attack`` or ``logger``: only this; or all that there is.

    Raises:
        PluginError, ConfigError: there is no such plugin, it cannot be imported, or the settings are wrong.
    """
    from buttress.testing import Subject

    found = _found(target, kind)
    settings = _settings(words, list(dict.fromkeys(source.name for _, _, source in found)))
    return [Subject(component, settings[source.name], source.name, source, each) for each, component, source in found]


def _found(target: str, kind: str | None) -> Found:
    path = user_path(target)
    if path.suffix == ".py":
        return _file(path, kind)
    if path.is_dir():
        return _package(path, kind)
    if "/" in target:
        raise PluginError(f"{target}: no such file or folder")
    return _installed(target, kind)


def _installed(name: str, kind: str | None) -> Found:
    short = name.rpartition(":")[2]
    kinds = [each for each in GROUPS if any(_is(source, name, short) for source in sources(each))]
    wanted = [each for each in kinds if each in HOOKED and kind in (None, each)]
    if kinds and not wanted:
        raise PluginError(f"{name!r} is {_listed(kinds)}{_but(kind)}; {_EXAMINED}")
    if not wanted:
        known = {source.name for each in ([kind] if kind else HOOKED) for source in sources(each)}
        raise PluginError(
            f"unknown {kind or 'plugin, attack or logger'} {name!r}{nearest(short, known)} (see: buttress plugins list)"
        )
    return [(each, load(source), source) for each in wanted for source in [find(each, name)]]


def _is(source: Source, name: str, short: str) -> bool:
    """Whether it is called ``short``, and ``name``, which may be ``dist:short``, means it."""
    return source.name == short and means(name, source.name, source.distribution)


def _file(path: Path, kind: str | None) -> Found:
    """The classes of a file; with one hook or another they may serve as an attack or a logger."""
    found: Found = []
    for component, source in read_plugins_file(path).plugins.values():
        hooks = hooks_in(component)
        guess = "logger" if makes_logger(hooks) else "plugin"
        if kind is None or kind == "plugin" or {"attack": "generate_adv", "logger": "log"}[kind] in hooks:
            found.append((kind or guess, component, source))
    if not found:
        raise PluginError(f"{path}: holds no {kind}; {_EXAMINED}")
    return found


def _package(folder: Path, kind: str | None) -> Found:
    """What a package's ``pyproject.toml`` names, from its own files, installed or not."""
    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("project", {})
    except (OSError, ValueError) as problem:
        raise PluginError(f"{path}: cannot be read: {problem}") from None
    groups: Mapping[str, Mapping[str, str]] = project.get("entry-points", {})
    kinds = [each for each, group in GROUPS.items() if groups.get(group)]
    wanted = [each for each in kinds if each in HOOKED and kind in (None, each)]
    if not wanted:
        expected = " or ".join(f'[project.entry-points."{GROUPS[each]}"]' for each in ([kind] if kind else HOOKED))
        named = f"names {_listed(kinds)}" if kinds else "names nothing of buttress"
        raise PluginError(f"{path}: {named}, expected {expected}; {_EXAMINED}")
    for place in (folder / "src", folder):
        sys.path.insert(0, str(place.resolve()))
    return [
        (each, _own(source, folder), source)
        for each in wanted
        for name, value in groups[GROUPS[each]].items()
        for source in [Source(each, name, value, project.get("name", folder.name), str(project.get("version", "?")))]
    ]


def _own(source: Source, folder: Path) -> Any:
    """The component, which must lie in ``folder``."""
    component = load(source)
    file = Path(sys.modules[EntryPoint(source.name, source.target, "").module].__file__ or "")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise PluginError(
            f"{folder / 'pyproject.toml'}: entry point {source.target} is not in this folder: {file} came first"
        )
    return component


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join("an attack" if each == "attack" else f"a {each}" for each in kinds)


def _but(kind: str | None) -> str:
    return f", and no {kind}" if kind else ""


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
