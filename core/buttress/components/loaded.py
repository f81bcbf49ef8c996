"""Plugin objects with their labels, sources and traits, as the engine takes them. Loads no torch."""

import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from buttress.components.construct import Component, choose, making
from buttress.components.entries import entry_of
from buttress.components.members import hooks_in, marked
from buttress.components.place import Place
from buttress.components.sources import Local, Source
from buttress.components.traits import traits_of
from buttress.errors import ConfigError, PluginError
from buttress.hookspecs import Traits


@dataclass(frozen=True, eq=False)
class LoadedPlugin:
    """A plugin object, with its label for messages and its source.

    Args:
        label: name in messages.
        plugin: the object.
        source: origin of the object, or None where it was not made by name.
        settings: all of its settings, as a config writes them.
        parts: components that its settings name, such as an attack loss.
    """

    label: str
    plugin: Any
    source: Source | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Component] = ()

    @cached_property
    def traits(self) -> Traits:
        """The traits that the plugin declares.

        Raises:
            PluginError: an attribute has a value that its trait does not take, or nearly the name of a trait.
        """
        return traits_of(self.plugin, f"plugin {self}")

    def __str__(self) -> str:
        origin = self.source or f"{type(self.plugin).__module__}.{type(self.plugin).__qualname__}"
        return f"{self.label!r} ({origin})"


def load_plugins(
    entries: Sequence[str | Mapping[str, Any]],
    place: Place | None = None,
    given: Mapping[str, Any] | None = None,
    kind: str = "plugin",
    local: Local | None = None,
) -> list[LoadedPlugin]:
    """Plugins by name, as a config lists them: ``["pgd", {"meat": {"start": 60}}]``; the rest as in ``build``.

    A plugin listed twice is labelled ``name`` and ``name#2``. ``kind`` is ``plugin`` or ``logger``. ``local`` are
    components that are not installed, by name: those of a ``plugins_file``.

    Raises:
        PluginError, ConfigError: see ``build``.
    """
    place = place or Place(f"{kind}s")
    _expect_list(entries, place)
    return as_loaded([_loaded(kind, entry, position, place, given, local) for position, entry in enumerate(entries)])


def as_loaded(plugins: Sequence[Any]) -> list[LoadedPlugin]:
    """Plugin objects, names and ``{name: settings}`` as loaded plugins with unique labels.

    Raises:
        PluginError, ConfigError: see ``build``.
    """
    _expect_list(plugins, Place("plugins"))
    counts: dict[str, int] = {}
    unique = []
    for position, plugin in enumerate(plugins):
        if isinstance(plugin, (str, Mapping)):
            item = _loaded("plugin", plugin, position, Place("plugins"))
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


def provides(loaded: LoadedPlugin, hook: str) -> bool:
    """Whether a plugin provides an exclusive hook (wrapping it does not count)."""
    return any(member.hook == hook and not member.options["wrapper"] for member in marked(type(loaded.plugin)))


def hooks_of(loaded: LoadedPlugin) -> set[str]:
    """The hooks that a plugin provides, joins or wraps."""
    return hooks_in(type(loaded.plugin))


def _loaded(
    kind: str,
    entry: str | Mapping[str, Any],
    position: int,
    place: Place,
    given: Mapping[str, Any] | None = None,
    local: Local | None = None,
) -> LoadedPlugin:
    """The plugin of an entry that stands at ``position`` of the list at ``place``."""
    name, settings = entry_of(entry, place / position)
    place = place / position / name
    component = choose(kind, name, place, local)
    with making(local, given) as parts:
        plugin, resolved = component.make(settings, place, given)
    return LoadedPlugin(component.source.name, plugin, component.source, resolved, parts)


def _expect_list(entries: object, place: Place) -> None:
    """Refuse a text, which would be read letter by letter, and a mapping, which would be read by its keys."""
    if isinstance(entries, Iterable) and not isinstance(entries, (str, bytes, Mapping, Set)):
        return
    meant = [{name: settings} for name, settings in entries.items()] if isinstance(entries, Mapping) else [entries]
    cure = f"; write {meant!r}" if isinstance(entries, (str, Mapping)) else ""
    raise ConfigError(f"expected a list, in the order of the calls, got {entries!r}{cure}", key=place)
