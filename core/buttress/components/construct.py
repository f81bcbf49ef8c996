"""Objects made of components: settings checked, the class examined, every fault with its place. Loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from buttress.components.file_lookup import with_whole_paths
from buttress.components.place import Place
from buttress.components.plain import plain
from buttress.components.plugin_class import check_class
from buttress.components.signature import file_settings, settings_model
from buttress.components.sources import HOOKED, Local, Source, find, load, serves_as, usable_names, words
from buttress.components.traits import traits_of
from buttress.components.validation import validate
from buttress.errors import InputError, PluginError, describe, keyed

Made = tuple[Any, dict[str, Any]]
"""An object, and all of its settings as plain values."""


@dataclass(frozen=True)
class Component:
    """A component that was chosen by its name. It is imported and its class is checked; no object is made yet."""

    kind: str
    name: str
    factory: Callable[..., Any]
    source: Source

    def make(self, settings: Mapping[str, Any], place: Place, given: Mapping[str, Any] | None = None) -> Made:
        """Make the component's object from ``settings``. Arguments and other errors: see ``construct``.

        Raises:
            PluginError: the component raises, or the object is no plugin.
        """
        try:
            made, resolved = construct(self.factory, settings, place, given)
        except InputError:
            raise
        except (Exception, SystemExit) as problem:
            raise PluginError(f"{self} cannot be made: {describe(problem)}", key=place) from problem
        if self.kind in HOOKED:
            with place.error_context():
                check_class(made, self.source)
                traits_of(made, str(self))
        return made, resolved

    def __str__(self) -> str:
        return f"{words(self.kind)} {self.name!r} from {self.source}"


@dataclass(frozen=True)
class _Making:
    """An object that is being made."""

    local: Local
    given: Mapping[str, Any]
    parts: list[Component]


_MAKING: ContextVar[_Making | None] = ContextVar("making", default=None)


@contextmanager
def making(local: Local | None, given: Mapping[str, Any] | None = None) -> Iterator[list[Component]]:
    """Make an object in the block; gives the list of its parts: the components that are chosen meanwhile.

    The attack loss that a setting of an attack names is such a part.

    Args:
        local: components that are not installed, by name, from which parts are chosen too.
        given: values that the core gives to the object, which its parts may ask for by ``given_value``.
    """
    parts: list[Component] = []
    token = _MAKING.set(_Making(local or {}, given or {}, parts))
    try:
        yield parts
    finally:
        _MAKING.reset(token)


def given_value(name: str) -> Any:
    """The value ``name`` that the core gives to the object that is being made, or None."""
    whole = _MAKING.get()
    return whole.given.get(name) if whole else None


def choose(kind: str, name: str, place: Place | None = None, local: Local | None = None) -> Component:
    """The component called ``name``.

    Args:
        kind: a key of ``GROUPS``.
        name: name of the component, or ``dist:name``.
        place: place of the name, for messages.
        local: components that are not installed, by name: those of a ``plugins_file``. By default those of the object
            that is being made, see ``making``.

    Raises:
        PluginError: unknown or broken component.
    """
    whole = _MAKING.get()
    if local is None:
        local = whole.local if whole else {}
    if name in local and serves_as(kind, local[name][1]):
        factory, source = local[name]
    else:
        source = find(kind, name, place, usable_names(kind, local))
        factory = load(source)
    if kind in HOOKED:
        with place.error_context() if place else nullcontext():
            check_class(factory, source)
    component = Component(kind, name, factory, source)
    if whole and component not in whole.parts:
        whole.parts.append(component)
    return component


def build(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    place: Place | None = None,
    given: Mapping[str, Any] | None = None,
) -> tuple[Any, Source, dict[str, Any]]:
    """The component called ``name`` with ``settings``: the object, its source, and all settings as plain values.

    Args:
        kind: a key of ``GROUPS``.
        name: name of the component, or ``dist:name``.
        settings: values from the config.
        place: place of the name with its settings, for messages.
        given: values that the core gives to components whose signature asks for them (``num_classes``).

    Raises:
        PluginError, ConfigError: unknown or broken component; unknown or wrong settings.
    """
    component = choose(kind, name, place)
    made, resolved = component.make(settings, place or Place(name), given)
    return made, component.source, resolved


def construct(
    factory: Callable[..., Any], settings: Mapping[str, Any], place: Place, given: Mapping[str, Any] | None = None
) -> Made:
    """The object that ``factory`` makes of ``settings``, and all settings as plain values.

    Args:
        factory: a class or a function.
        settings: values from the config.
        place: place of the settings, for messages.
        given: values that the core gives where the signature asks for them.

    Raises:
        PluginError, ConfigError: unknown or wrong settings.
    """
    accepted = inspect.signature(factory).parameters
    automatic = {key: value for key, value in (given or {}).items() if key in accepted and key not in settings}
    with place.error_context():
        model = settings_model(factory, frozenset(automatic))
    checked = validate(model, with_whole_paths(settings, file_settings(factory), place), place)
    values = {key: getattr(checked, key) for key in model.model_fields}
    try:
        made = factory(**values, **automatic)
    except ValueError as problem:
        raise PluginError(problem, key=place) from problem
    except InputError as problem:
        if problem.key.startswith(str(place)):
            raise
        if problem.key in model.model_fields:  # the component names the setting that is at fault
            raise type(problem)(problem.message, key=place / problem.key, place=problem.place) from problem.__cause__
        raise keyed(problem, place) from problem.__cause__
    return made, {key: _as_written(value, place / key) for key, value in checked.model_dump(warnings=False).items()}


def _as_written(value: Any, place: Place) -> Any:
    try:
        return plain(value)
    except ValueError as problem:
        raise PluginError(problem, key=place) from None
