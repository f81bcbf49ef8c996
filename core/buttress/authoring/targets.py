"""Find the plugins that ``buttress plugins check`` is to examine: installed ones, a file of them, or a package."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress.components.members import hooks_in
from buttress.components.plugins_file import read_plugins_file
from buttress.components.sources import GROUPS, HOOKED, Source, find, load, matches, sources, words
from buttress.components.trust import belongs_to_run
from buttress.config.own_code import OwnCode
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, PluginError, nearest
from buttress.hookspecs import makes_logger
from buttress.storage.user_path import user_path

if TYPE_CHECKING:
    from buttress.testing import Subject

# End of the message about a target that has no promises to examine.
_EXAMINED = (
    "promises are those of plugins, attacks and loggers (--kind); a model, a data set, a schedule or an attack loss is "
    "tried by buttress config validate"
)

Chosen = list[tuple[str, Callable[[], Any], Source]]
"""Kind, what loads the class, and source."""


@dataclass(frozen=True)
class Candidate:
    """Something to be examined, if it can be made.

    Args:
        kind: ``plugin``, ``attack`` or ``logger``.
        source: where it comes from.
        load: gives its class.
        settings: its settings.
    """

    kind: str
    source: Source
    load: Callable[[], Any]
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.source.name!r}"

    def subject(self) -> Subject:
        """It, made.

        Raises:
            PluginError, ConfigError: it cannot be imported, is none of its kind, or its settings are wrong.
        """
        from buttress.testing import Subject

        return Subject(self.load(), self.settings, self.source.name, self.source, self.kind)


def subjects_of(
    target: str, words: Sequence[str] = (), kind: str | None = None, only: Sequence[str] = ()
) -> list[Subject]:
    """The plugins, attacks and loggers that ``target`` means; arguments and errors as in ``candidates``.

    Raises:
        PluginError, ConfigError: one of them cannot be made.
    """
    return [candidate.subject() for candidate in candidates(target, words, kind, only)]


def candidates(
    target: str,
    words: Sequence[str] = (),
    kind: str | None = None,
    only: Sequence[str] = (),
    *,
    trust: bool = False,
) -> list[Candidate]:
    """The plugins, attacks and loggers that ``target`` means, with their settings; none of them is made yet.

    Args:
        target: the name of something installed, a ``.py`` file, or the folder of a package (with a ``pyproject.toml``).
        words: ``key=value`` for one plugin, or ``name.key=value``.
        kind: ``plugin``, ``attack`` or ``logger``: only this; or all that there is.
        only: names of those to examine, of a file or a package that holds more; empty: all of them.
        trust: execute the file also where it came with a run, and remember it as trusted.

    Raises:
        TrustError: the file came with a run, and the user has not trusted it.
        PluginError, ConfigError: there is no such plugin, or no such setting of one.
    """
    chosen = _named(target, _chosen(target, kind, trust), only)
    settings = _settings(words, list(dict.fromkeys(source.name for _, _, source in chosen)))
    return [Candidate(each, source, load, settings[source.name]) for each, load, source in chosen]


def _named(target: str, chosen: Chosen, only: Sequence[str]) -> Chosen:
    """Those of ``chosen`` that are called by a name in ``only``."""
    names = list(dict.fromkeys(source.name for _, _, source in chosen))
    for name in only:
        if name not in names:
            raise PluginError(f"{target}: holds no {name!r}{nearest(name, names)}")
    return [each for each in chosen if not only or each[2].name in only]


def _chosen(target: str, kind: str | None, trust: bool) -> Chosen:
    path = user_path(target)
    if path.suffix == ".py":
        return _file(path, kind, trust)
    if path.is_dir():
        return _package(path, kind)
    if "/" in target:
        raise PluginError(f"{target}: no such file or folder")
    return _installed(target, kind)


def _installed(name: str, kind: str | None) -> Chosen:
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
    return [(each, partial(load, source), source) for each in wanted for source in [find(each, name)]]


def _is(source: Source, name: str, short: str) -> bool:
    """Whether it is called ``short``, and ``name``, which may be ``dist:short``, means it."""
    return source.name == short and matches(name, source.name, source.distribution)


def _file(path: Path, kind: str | None, trust: bool) -> Chosen:
    """The classes of a file; with one hook or another they may serve as an attack or a logger."""
    chosen: Chosen = []
    file = read_plugins_file(path)
    own = OwnCode(str(path), file, {}, {}, path.parent, trusted_only=belongs_to_run(path) and not trust)
    components = own.components_as_they_are
    own.trust()  # what the user has named, or trusted
    for component, source in components.values():
        if source.kind not in HOOKED:
            continue
        hooks = hooks_in(component)
        guess = "logger" if makes_logger(hooks) else "plugin"
        if kind is None or kind == "plugin" or {"attack": "generate_adv", "logger": "log"}[kind] in hooks:
            chosen.append((kind or guess, partial(_same, component), source))
    if not chosen:
        raise PluginError(f"{path}: holds no {kind or 'plugin, attack or logger'}; {_EXAMINED}")
    return chosen


def _package(folder: Path, kind: str | None) -> Chosen:
    """Components that a package's ``pyproject.toml`` names, from its own files, installed or not."""
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
        (each, partial(_own, source, folder), source)
        for each in wanted
        for name, value in groups[GROUPS[each]].items()
        for source in [Source(each, name, value, project.get("name", folder.name), str(project.get("version", "?")))]
    ]


def _same(component: Any) -> Any:
    return component


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
    return " and ".join(f"{'an' if each.startswith('attack') else 'a'} {words(each)}" for each in kinds)


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
