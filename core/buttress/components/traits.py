"""The traits of a plugin, read once; values that a trait does not take and misspelt names are refused. Loads no torch.

``hookspecs.Traits`` lists the traits and their meanings.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from types import FunctionType
from typing import Any

from rapidfuzz.distance import OSA

from buttress.components.members import attributes_of, hooks_in
from buttress.components.trait_kinds import KINDS
from buttress.errors import PluginError, describe, line_of
from buttress.hookspecs import TRAITS_SINCE_1_1, Traits

TRAITS = tuple(each.name for each in fields(Traits))
"""Names of all traits."""
_UNKNOWN = object()


def traits_of(plugin: Any, who: str) -> Traits:
    """The traits of a plugin, or of its class as far as the class shows them.

    Args:
        plugin: an object, or a class.
        who: name of the plugin, for messages.

    Raises:
        PluginError: an attribute has a value that its trait does not take, or nearly the name of a trait.
    """
    _expect_no_near_miss(plugin, who)
    later = _later_traits(plugin, who)
    names = [name for name in TRAITS if name not in later]
    values = {name: value for name in names if (value := _value(plugin, name, who)) is not _UNKNOWN}
    for name, value in values.items():
        fault = KINDS[name].fault(value, inspect.isclass(plugin))
        if fault:
            raise PluginError(f"{who}: {name}: {fault}", place=line_of(plugin, name))
    if ("state_dict" in values) != ("load_state_dict" in values):
        has, lacks = ("state_dict", "load_state_dict")[:: 1 if "state_dict" in values else -1]
        raise PluginError(
            f"{who} has {has} and no {lacks}: its runs could not be resumed; write both", place=line_of(plugin, has)
        )
    return Traits(**values)


def _later_traits(plugin: Any, who: str) -> Sequence[str]:
    """The traits that came after the version of the hooks for which a plugin is written."""
    return TRAITS_SINCE_1_1 if str(_value(plugin, "hookspec", who)) in ("1", "1.0") else ()


def declared_name(cls: type) -> str | None:
    """The trait ``name`` of a class, where it is a name."""
    name = inspect.getattr_static(cls, "name", None)
    return name if isinstance(name, str) and name else None


def _value(plugin: Any, name: str, who: str) -> Any:
    """The value of an attribute; None, and what ``__getattr__`` makes up, count as no attribute."""
    static = inspect.getattr_static(plugin, name, None)
    if static is None or (inspect.isclass(plugin) and _is_computed(static)):
        return _UNKNOWN
    try:
        value = getattr(plugin, name)
    except Exception as problem:
        raise PluginError(f"{who}: {name} cannot be read: {describe(problem, plugin)}") from problem
    return _UNKNOWN if value is None else value


def _is_computed(static: object) -> bool:
    """Whether a member of a class is a property, a slot or the like, which only an object gives a value."""
    return hasattr(type(static), "__get__") and not isinstance(static, (FunctionType, staticmethod, classmethod))


# Names that are nearly those of traits


def _expect_no_near_miss(plugin: Any, who: str) -> None:
    for name, value in _declared(plugin):
        trait = _nearest(name)
        if trait and KINDS[trait].resembles(value, name in _settings_of(plugin)):
            raise PluginError(
                f"{who}: unknown attribute {name!r}; did you mean {trait!r}? (else call it otherwise)",
                place=line_of(plugin, name),
            )


def _declared(plugin: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of every public attribute of an object and of its classes.

    Attributes that a base class of another library has, and that has no hooks, are left out: ``forward`` of
    ``torch.nn.Module``.
    """
    cls = plugin if inspect.isclass(plugin) else type(plugin)
    home = cls.__module__.partition(".")[0]
    own = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == home or hooks_in(base)]
    others = {name for base in cls.__mro__ if base not in own for name in vars(base)}
    values = {name: value for base in reversed(own) for name, value in vars(base).items()}
    if plugin is not cls:
        values |= attributes_of(plugin)
    for name, value in values.items():
        if not name.startswith("_") and name not in others and name not in TRAITS:
            yield name, value


def _settings_of(plugin: Any) -> set[str]:
    try:
        return set(inspect.signature(plugin if inspect.isclass(plugin) else type(plugin)).parameters)
    except (TypeError, ValueError):
        return set()


# Numbers of letters.
_SHORT, _LONG = 6, 9


@cache
def _nearest(name: str) -> str | None:
    """The first trait whose name is nearly ``name``."""
    return next((trait for trait in TRAITS if _is_near(name, trait)), None)


def _is_near(name: str, trait: str) -> bool:
    """Whether two names are equal but for capitals, underscores and a slip or two of the fingers in a long name."""
    one, two = (word.replace("_", "").lower() for word in (name, trait))
    slips = OSA.distance(one, two)
    if len(two) >= _SHORT:
        return slips <= (1 if len(two) < _LONG else 2)
    if slips == 1 and len(one) == len(two):  # another letter makes another word of a short one: given, lives, same
        return sorted(one) == sorted(two)
    return slips == 0 or (slips == 1 and len(two) > 4)
