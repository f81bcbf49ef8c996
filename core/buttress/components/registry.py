"""Plugins by name: entry points listed without importing anything, loaded when a config names them.

This module loads no torch, and no plugin before it is chosen.
"""

import inspect
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from buttress._version import __version__
from buttress.components.installed import broken_distributions, entry_points_of
from buttress.components.members import hooks_in, marked
from buttress.components.place import Where, in_code
from buttress.components.plain import plain
from buttress.components.plugin_class import check_class
from buttress.components.signature import settings_model
from buttress.components.traits import traits_of
from buttress.components.validation import validate
from buttress.errors import ConfigError, InputError, PluginError, nearest
from buttress.hookspecs import Traits

GROUPS = {
    "plugin": "buttress.plugins",
    "attack": "buttress.attacks",
    "model": "buttress.models",
    "dataset": "buttress.datasets",
    "logger": "buttress.loggers",
    "schedule": "buttress.schedules",
}
"""Kind of component to entry-point group. An attack is a plugin with ``generate_adv``, used for evaluation; a logger is
one with ``log``."""

HOOKED = ("plugin", "attack", "logger")
"""Kinds whose components are classes with hooks."""


@dataclass(frozen=True)
class Source:
    """Where a component comes from; all of it is metadata, nothing is imported."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    status: str = "listed"

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


Local = Mapping[str, tuple[Any, Source]]
"""Components that are not installed, by the name that a config gives them."""


@dataclass(frozen=True, eq=False)
class LoadedPlugin:
    """A plugin object, with the name that faults give it, and where it came from."""

    label: str
    plugin: Any
    source: Source | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def traits(self) -> Traits:
        """What the plugin declares about itself.

        Raises:
            PluginError: an attribute has a value that its trait does not take, or nearly the name of a trait.
        """
        return traits_of(self.plugin, f"plugin {self}")

    def __str__(self) -> str:
        origin = self.source or f"{type(self.plugin).__module__}.{type(self.plugin).__qualname__}"
        return f"{self.label!r} ({origin})"


@cache
def _listed() -> dict[str, list[Source]]:
    """Kind to its installed components, ``listed`` or ``incompatible``; the metadata are searched once a process."""
    kinds = {group: kind for kind, group in GROUPS.items()}
    found: dict[str, list[Source]] = {kind: [] for kind in GROUPS}
    found["schedule"] += _own_schedules()
    for point in entry_points_of(*kinds):
        kind = kinds[point.group]
        found[kind].append(
            Source(kind, point.name, point.value, point.distribution, point.version, _status(point.requires))
        )
    return found


def _own_schedules() -> Iterator[Source]:
    """The schedules of the core, which need no entry point."""
    from buttress.config.schedule import SCHEDULES

    for name, schedule in SCHEDULES.items():
        yield Source("schedule", name, f"{schedule.__module__}:{schedule.__qualname__}", "buttress", __version__)


@cache
def _status(requires: tuple[str, ...]) -> str:
    """Once for all components of a distribution: requirements are parsed anew at every look."""
    return "incompatible" if any(map(_excludes_us, requires)) else "listed"


def sources(kind: str) -> list[Source]:
    """Every installed component of a kind, by name.

    ``status`` is ``listed``; ``shadowed`` where several distributions claim the name (choose by ``dist:name``);
    ``incompatible`` where the distribution requires another version of buttress; or ``disabled`` by the environment
    variable ``BUTTRESS_DISABLE``: the name of a component or of a distribution, or ``dist:name``, commas between.
    """
    words = [word.strip() for word in os.environ.get("BUTTRESS_DISABLE", "").split(",") if word.strip()]
    found, claims = [], defaultdict[str, set[str]](set)
    for source in _listed()[kind]:
        disabled = any(means(word, source.name, source.distribution) for word in words)
        found.append(replace(source, status="disabled") if disabled else source)
        if not disabled:
            claims[source.name].add(source.distribution)
    shadowed = [replace(each, status="shadowed") if _is_shadowed(each, claims) else each for each in found]
    return sorted(shadowed, key=lambda source: (source.name, source.distribution))


def _is_shadowed(source: Source, claims: Mapping[str, set[str]]) -> bool:
    return source.status == "listed" and len(claims[source.name]) > 1


def means(word: str, name: str, distribution: str) -> bool:
    """Whether ``word`` (a component's name, a distribution's, or ``dist:name``) means this component.

    As in names of distributions, case and the kind of separator make no difference: ``My-Defense`` is ``my_defense``.
    """
    first, colon, second = map(canonicalize_name, word.rpartition(":"))
    own, owner = canonicalize_name(name), canonicalize_name(distribution)
    return (first, second) == (owner, own) if colon else second in (own, owner)


def _excludes_us(requirement: str) -> bool:
    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:  # somebody's broken metadata must not stop everybody's commands
        return False
    if canonicalize_name(wanted.name) != "buttress" or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        return False
    return not wanted.specifier.contains(__version__, prereleases=True)


def find(kind: str, name: str, where: str = "", local: Collection[str] = ()) -> Source:
    """The component that a config means by ``name``: ``"pgd"`` or, to choose among several, ``"my-dist:pgd"``.

    Args:
        kind: a key of ``GROUPS``.
        name: as the config says.
        where: the place of the name, for messages.
        local: names that are known beside those of what is installed.

    Raises:
        PluginError: unknown (with the nearest name), claimed by several distributions, or incompatible.
    """
    at = f"{where}: " if where else ""
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
            f"{at}{kind} {name!r} from {disabled[0]} is disabled by the environment variable BUTTRESS_DISABLE; take it "
            "out of that list, or leave it out of the config"
        )
    if not matching:
        unread = "".join(f"; {each} (it may have it)" for each in broken_distributions((GROUPS[kind],)))
        raise PluginError(
            f"{at}unknown {kind} {name!r}{_hint(kind, short, local)} (see: buttress plugins list){unread}"
        )
    if len(matching) > 1:
        claims = " and ".join(f"{source} ({source.target})" for source in matching)
        raise PluginError(
            f"{at}{kind} {name!r} is claimed by {claims}; choose one as '{matching[0].distribution}:{short}'"
        )
    if matching[0].status == "incompatible":
        raise PluginError(
            f"{at}{kind} {name!r} from {matching[0]} requires another version of buttress than {__version__}; "
            f"install a version of {matching[0].distribution} that allows it"
        )
    return matching[0]


def _usable(kind: str, local: Local) -> set[str]:
    """The names of those components of a file that may be chosen as a ``kind``."""
    needed = {"generate_adv"} if kind == "attack" else set()
    return {name for name, (component, _) in local.items() if needed <= hooks_in(component)}


def _hint(kind: str, name: str, local: Collection[str]) -> str:
    """Where else there is a component of that name; else the nearest of this kind."""
    others = kinds_of(name)
    if others:
        return f"; {name!r} is a component of another kind: {', '.join(others)}"
    return nearest(name, {*local, *(source.name for source in sources(kind))})


def find_any(name: str) -> Source:
    """The component called ``name`` (as in ``find``), of the first kind that has one.

    Raises:
        PluginError: as in ``find``; no kind has it, with the nearest name of all of them.
    """
    short = name.rpartition(":")[2]
    having = kinds_of(short)
    if having:
        return find(having[0], name)
    known = {source.name for kind in GROUPS for source in sources(kind)}
    raise PluginError(f"unknown plugin {name!r}{nearest(short, known)} (see: buttress plugins list)")


def kinds_of(name: str) -> list[str]:
    """The kinds of component in which something is called ``name``."""
    return [kind for kind in GROUPS if any(source.name == name for source in sources(kind))]


def load(source: Source) -> Any:
    """Import the component.

    Raises:
        PluginError: its import fails, with distribution, version, entry point and cause.
    """
    point = EntryPoint(name=source.name, value=source.target, group=GROUPS[source.kind])
    try:
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as cause:  # SystemExit at import too: a broken plugin must not end the program
        raise PluginError(
            f"{source.kind} {source.name!r} from {source} cannot be imported: entry point {source.target} raised "
            f"{type(cause).__name__}: {cause}. Repair or uninstall {source.distribution}"
        ) from cause


def build(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    where: Where | None = None,
    given: Mapping[str, Any] | None = None,
    named: str = "",
    local: Local | None = None,
) -> tuple[Any, Source, dict[str, Any]]:
    """The component called ``name`` with ``settings``: the object, its source, and all settings as plain values.

    Args:
        kind: a key of ``GROUPS``.
        name: as the config says.
        settings: values from the config.
        where: names the place of a setting in error messages.
        given: values that the core gives to components whose signature asks for them (``num_classes``).
        named: the place of the name in error messages, where it is not that of the settings.
        local: components that are not installed, by name: those of a ``plugins_file``.

    Raises:
        PluginError, ConfigError: unknown or broken component; unknown or wrong settings.
    """
    where = where or in_code(name)
    if local and name in local:
        component, source = local[name]
    else:
        source = find(kind, name, named or (where(()) if where(()) != name else ""), _usable(kind, local or {}))
        component = load(source)
    if kind in HOOKED:
        check_class(component, source)
    try:
        built, resolved = construct(component, settings, where, given)
    except InputError:
        raise
    except (Exception, SystemExit) as problem:
        raise PluginError(
            f"{where(())}: {kind} {name!r} from {source} cannot be made: {type(problem).__name__}: {problem}"
        ) from problem
    if kind in HOOKED:
        check_class(built, source)
        traits_of(built, f"{kind} {name!r} from {source}")
    return built, source, resolved


def construct(
    component: Callable[..., Any], settings: Mapping[str, Any], where: Where, given: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """The object that ``component`` makes of ``settings``, and all settings as plain values; ``given`` as in ``build``.

    Raises:
        PluginError, ConfigError: unknown or wrong settings.
    """
    accepted = inspect.signature(component).parameters
    automatic = {key: value for key, value in (given or {}).items() if key in accepted and key not in settings}
    model = settings_model(component, frozenset(automatic))
    checked = validate(model, dict(settings), where)
    values = {key: getattr(checked, key) for key in model.model_fields}
    try:
        built = component(**values, **automatic)
    except ValueError as problem:
        raise PluginError(f"{where(())}: {problem}") from problem
    except InputError as problem:
        if str(problem).startswith(where(())):
            raise
        raise type(problem)(f"{where(())}: {problem}") from problem.__cause__
    return built, {key: _as_written(key, value, where) for key, value in checked.model_dump(warnings=False).items()}


def _as_written(key: str, value: Any, where: Where) -> Any:
    try:
        return plain(value)
    except ValueError as problem:
        raise PluginError(f"{where((key,))}: {problem}") from None


def load_plugins(
    entries: Sequence[str | Mapping[str, Any]],
    where: Where | None = None,
    given: Mapping[str, Any] | None = None,
    kind: str = "plugin",
    local: Local | None = None,
) -> list[LoadedPlugin]:
    """Plugins by name, as a config lists them: ``["pgd", {"meat": {"start": 60}}]``; the rest as in ``build``.

    A plugin listed twice is labelled ``name`` and ``name#2``. ``kind`` is ``plugin`` or ``logger``.

    Raises:
        PluginError, ConfigError: see ``build``.
    """
    where = where or in_code(f"{kind}s")
    _expect_list(entries, where(()))
    return as_loaded([_loaded(kind, entry, position, where, given, local) for position, entry in enumerate(entries)])


def _loaded(
    kind: str,
    entry: str | Mapping[str, Any],
    position: int,
    where: Where,
    given: Mapping[str, Any] | None = None,
    local: Local | None = None,
) -> LoadedPlugin:
    """The plugin of an entry that stands at ``position`` of the list at ``where``."""
    name, settings = entry_of(entry, where((position,)))
    plugin, source, resolved = build(kind, name, settings, _under(where, (position, name)), given, local=local)
    return LoadedPlugin(source.name, plugin, source, resolved)


def as_loaded(plugins: Sequence[Any]) -> list[LoadedPlugin]:
    """Plugin objects, names and ``{name: settings}`` as loaded plugins with unique labels.

    Raises:
        PluginError, ConfigError: see ``build``.
    """
    _expect_list(plugins, "plugins")
    counts: dict[str, int] = {}
    unique = []
    for position, plugin in enumerate(plugins):
        if isinstance(plugin, (str, Mapping)):
            item = _loaded("plugin", plugin, position, in_code("plugins"))
        elif isinstance(plugin, LoadedPlugin):
            item = replace(plugin, label=plugin.label.split("#")[0])
        elif inspect.isclass(plugin):
            raise PluginError(
                f"expected a plugin object, got the class {plugin.__name__}; write {plugin.__name__}(...)"
            )
        else:
            item = LoadedPlugin(type(plugin).__name__, plugin)
            item = replace(item, label=item.traits.name or item.label)
        counts[item.label] = counts.get(item.label, 0) + 1
        unique.append(item if counts[item.label] == 1 else replace(item, label=f"{item.label}#{counts[item.label]}"))
    return unique


def _expect_list(entries: object, where: str) -> None:
    """Refuse what would be read as other plugins than are meant: a text letter by letter, a mapping by its keys."""
    if isinstance(entries, Iterable) and not isinstance(entries, (str, bytes, Mapping, Set)):
        return
    meant = [{name: settings} for name, settings in entries.items()] if isinstance(entries, Mapping) else [entries]
    cure = f"; write {meant!r}" if isinstance(entries, (str, Mapping)) else ""
    raise ConfigError(f"{where}: expected a list, in the order of the calls, got {entries!r}{cure}")


def provides(loaded: LoadedPlugin, hook: str) -> bool:
    """Whether a plugin provides an exclusive hook (wrapping it does not count)."""
    return any(found.hook == hook and not found.options["wrapper"] for found in marked(type(loaded.plugin)))


def hooks_of(loaded: LoadedPlugin) -> set[str]:
    """The hooks that a plugin provides, joins or wraps."""
    return hooks_in(type(loaded.plugin))


def entry_of(entry: object, where: str) -> tuple[str, dict[str, Any]]:
    """``"pgd"`` or ``{"pgd": {...}}`` as name and settings."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, settings),) = entry.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return name, dict(settings or {})
    raise ConfigError(f"{where}: expected a name or 'name: {{settings}}', got {entry!r}")


def attack_entry_of(entry: object, where: str) -> tuple[str, dict[str, Any]]:
    """As ``entry_of``, for an attack of evaluations: ``"pgd-20"`` is ``pgd`` with 20 steps.

    Raises:
        ConfigError: no such entry, or steps beside a number of steps in the name.
    """
    name, settings = entry_of(entry, where)
    counted = re.fullmatch(r"(.+)-([0-9]{1,9})", name)
    if counted is None or any(source.name == name.rpartition(":")[2] for source in sources("attack")):
        return name, settings
    if "steps" in settings:
        raise ConfigError(f"{where}: {name} says the number of steps, and steps says it again; leave out one of them")
    return counted[1], {"steps": int(counted[2]), **settings}


def _under(where: Where, prefix: tuple[str | int, ...]) -> Where:
    return lambda path: where((*prefix, *path))
