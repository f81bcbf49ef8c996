"""Hooks among the members of a plugin's class, and attributes of an object. Loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial, partialmethod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

# Wrappers of a function, and the attribute that holds the function.
_AROUND: tuple[tuple[tuple[type, ...], str], ...] = (
    ((staticmethod, classmethod), "__func__"),
    ((property,), "fget"),
    ((cached_property, partial, partialmethod), "func"),
)


class Marked(NamedTuple):
    """A member of a class that is marked ``@hookimpl``.

    Args:
        name: name of the member.
        hook: the hook that it implements.
        options: arguments of ``@hookimpl``.
        member: member as it stands in the class: a function, a static method, ...
    """

    name: str
    hook: str
    options: Mapping[str, Any]
    member: Any


_MARKED: WeakKeyDictionary[type, tuple[Marked, ...]] = WeakKeyDictionary()
"""Classes whose members are known already: every engine asks for them several times."""


def marked(cls: type) -> tuple[Marked, ...]:
    """Every marked member of a class and of its bases."""
    if cls not in _MARKED:
        _MARKED[cls] = tuple(_marked(cls))
    return _MARKED[cls]


def _marked(cls: type) -> Iterator[Marked]:
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        options = mark_of(member)
        if options is not None:
            yield Marked(name, options.get("specname") or name, options, member)


def hooks_in(cls: type) -> set[str]:
    """The hooks that a class provides, joins or wraps."""
    return {member.hook for member in marked(cls)}


def mark_of(member: Any) -> Mapping[str, Any] | None:
    """The options of ``@hookimpl`` on a member, or on the function inside a class method, a property or a partial."""
    inner = member
    for kinds, attribute in _AROUND:
        inner = getattr(inner, attribute) if isinstance(inner, kinds) else inner
    marks = (inspect.getattr_static(each, "buttress_impl", None) for each in (member, inner))
    return next((options for options in marks if isinstance(options, Mapping)), None)


def attributes_of(plugin: Any) -> dict[str, Any]:
    """The attributes of an object itself, without those of its class and those that ``__getattr__`` makes up."""
    with suppress(AttributeError):  # a class with __slots__
        return dict(object.__getattribute__(plugin, "__dict__"))
    return {}
