"""Names of components and where they come from: entry points, listed without importing anything.

This module loads no torch, and no plugin before ``load``.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from buttress._version import __version__
from buttress.components.installed import broken_distributions, entry_points_of
from buttress.components.members import hooks_in
from buttress.components.place import Place
from buttress.errors import PluginError, describe, nearest

GROUPS = {
    "plugin": "buttress.plugins",
    "attack": "buttress.attacks",
    "model": "buttress.models",
    "dataset": "buttress.datasets",
    "logger": "buttress.loggers",
    "schedule": "buttress.schedules",
    "attack_loss": "buttress.attack_losses",
    "launcher": "buttress.launchers",
}
"""Kind of component to entry-point group. An attack is a plugin with ``generate_adv``, used for evaluation; a logger is
one with ``log``; an attack loss is what an attack maximises; a launcher carries out the runs of a comparison."""


HOOKED = ("plugin", "attack", "logger")
"""Kinds whose components are classes with hooks."""


@dataclass(frozen=True)
class Source:
    """The origin of a component, known from metadata without importing anything."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    status: str = "listed"

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


Local = Mapping[str, tuple[Any, Source]]
"""Components that are not installed, by their names in a config."""


def sources(kind: str) -> list[Source]:
    """Every installed component of a kind, by name.

    ``status`` is ``listed``; ``shadowed`` if several distributions claim the name (choose by ``dist:name``);
    ``incompatible`` if the distribution requires another version of buttress; or ``disabled`` by the environment
    variable ``BUTTRESS_DISABLE``, a list with commas of names of components or distributions, or of ``dist:name``.
    """
    words = [word.strip() for word in os.environ.get("BUTTRESS_DISABLE", "").split(",") if word.strip()]
    listed, claims = [], defaultdict[str, set[str]](set)
    for source in _listed()[kind]:
        disabled = any(matches(word, source.name, source.distribution) for word in words)
        listed.append(replace(source, status="disabled") if disabled else source)
        if not disabled:
            claims[source.name].add(source.distribution)
    # A disabled source claims no name: disabling one of two is the cure for shadowing.
    shadowed = [replace(each, status="shadowed") if _is_shadowed(each, claims) else each for each in listed]
    return sorted(shadowed, key=lambda source: (source.name, source.distribution))


def matches(word: str, name: str, distribution: str) -> bool:
    """Whether ``word``, the name of a component or a distribution or ``dist:name``, matches this component.

    Case and the kind of separator make no difference, as in names of distributions: ``My-Defense`` is ``my_defense``.
    """
    first, colon, second = map(canonicalize_name, word.rpartition(":"))
    own, owner = canonicalize_name(name), canonicalize_name(distribution)
    return (first, second) == (owner, own) if colon else second in (own, owner)


def find(kind: str, name: str, place: Place | None = None, local: Collection[str] = ()) -> Source:
    """The source of the component ``name`` of a config: ``"pgd"`` or, to choose among several, ``"my-dist:pgd"``.

    Args:
        kind: a key of ``GROUPS``.
        name: name of the component in the config.
        place: place of the name, for messages.
        local: names of components that are not installed.

    Raises:
        PluginError: the name is unknown (with the nearest), claimed by several distributions, or incompatible.
    """
    prefix, what = f"{place}: " if place else "", words(kind)
    distribution, _, short = name.rpartition(":")
    matching = [
        source
        for source in sources(kind)
        if source.name == short
        and (not distribution or canonicalize_name(source.distribution) == canonicalize_name(distribution))
    ]
    disabled = [source for source in matching if source.status == "disabled"]
    matching = [source for source in matching if source.status != "disabled"]
    if not matching and disabled:
        raise PluginError(
            f"{prefix}{what} {name!r} from {disabled[0]} is disabled by the environment variable BUTTRESS_DISABLE; "
            "take it out of that list, or leave it out of the config"
        )
    if not matching:
        unread = "".join(f"; {each} (it may have it)" for each in broken_distributions((GROUPS[kind],)))
        raise PluginError(
            f"{prefix}unknown {what} {name!r}{_hint(kind, short, local)} (see: buttress plugins list){unread}"
        )
    if len(matching) > 1:
        claims = " and ".join(f"{source} ({source.target})" for source in matching)
        raise PluginError(
            f"{prefix}{what} {name!r} is claimed by {claims}; choose one as '{matching[0].distribution}:{short}'"
        )
    if matching[0].status == "incompatible":
        raise PluginError(
            f"{prefix}{what} {name!r} from {matching[0]} requires another version of buttress than {__version__}; "
            f"install a version of {matching[0].distribution} that allows it"
        )
    return matching[0]


def words(kind: str) -> str:
    """A key of ``GROUPS`` as messages write it."""
    return kind.replace("_", " ")


def find_any(name: str) -> Source:
    """The source of the component ``name`` (as in ``find``) of the first kind that has one.

    Raises:
        PluginError: see ``find``; or no kind has one, with the nearest of all names.
    """
    short = name.rpartition(":")[2]
    having = kinds_of(short)
    if having:
        return find(having[0], name)
    known = {source.name for kind in GROUPS for source in sources(kind)}
    raise PluginError(f"unknown plugin {name!r}{nearest(short, known)} (see: buttress plugins list)")


def kinds_of(name: str) -> list[str]:
    """The kinds that have a component called ``name``."""
    return [kind for kind in GROUPS if any(source.name == name for source in sources(kind))]


def load(source: Source) -> Any:
    """Import a component.

    Raises:
        PluginError: the import fails, with distribution, version, entry point and cause.
    """
    point = EntryPoint(name=source.name, value=source.target, group=GROUPS[source.kind])
    try:
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as cause:  # SystemExit at import too: a broken plugin must not end the program
        raise PluginError(
            f"{words(source.kind)} {source.name!r} from {source} cannot be imported: entry point {source.target} "
            f"raised {describe(cause)}. Repair or uninstall {source.distribution}"
        ) from cause


@cache
def _listed() -> dict[str, list[Source]]:
    """Kind to its installed components, ``listed`` or ``incompatible``; the metadata are searched once per process."""
    kinds = {group: kind for kind, group in GROUPS.items()}
    listed: dict[str, list[Source]] = {kind: [] for kind in GROUPS}
    for point in entry_points_of(*kinds):
        kind = kinds[point.group]
        listed[kind].append(
            Source(kind, point.name, point.value, point.distribution, point.version, _status(point.requires))
        )
    return listed


@cache
def _status(requires: tuple[str, ...]) -> str:
    """The status of a distribution, cached since its requirements are parsed each time."""
    return "incompatible" if any(map(_excludes_us, requires)) else "listed"


def _excludes_us(requirement: str) -> bool:
    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:  # somebody's broken metadata must not stop everybody's commands
        return False
    if canonicalize_name(wanted.name) != "buttress" or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        return False
    return not wanted.specifier.contains(__version__, prereleases=True)


def _is_shadowed(source: Source, claims: Mapping[str, set[str]]) -> bool:
    return source.status == "listed" and len(claims[source.name]) > 1


def serves_as(kind: str, source: Source) -> bool:
    """Whether a component of a file, with this source, may be chosen as a ``kind``; a plugin may be an attack too."""
    return source.kind == kind or (source.kind == "plugin" and kind in HOOKED)


def usable_names(kind: str, local: Local) -> set[str]:
    """The names of the components of a file that may be chosen as a ``kind``."""
    needed = {"generate_adv"} if kind == "attack" else set()
    return {
        name for name, (component, source) in local.items() if serves_as(kind, source) and needed <= hooks_in(component)
    }


def _hint(kind: str, name: str, local: Collection[str]) -> str:
    """The other kinds that have a component of that name, or else the nearest name of this kind."""
    others = kinds_of(name)
    if others:
        return f"; {name!r} is a component of another kind: {', '.join(map(words, others))}"
    return nearest(name, {*local, *(source.name for source in sources(kind))})
