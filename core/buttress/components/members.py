"""The members of a plugin's class that are hooks, and the attributes that an object has. Loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial, partialmethod
from typing import Any, NamedTuple

# What may stand around a function, and the attribute that holds the function.
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
        options: what was given to ``@hookimpl``.
        member: as it stands in the class: a function, a static method, ...
    """

    name: str
    hook: str
    options: Mapping[str, Any]
    member: Any


def marked(cls: type) -> Iterator[Marked]:
    """Every marked member of a class, those of its bases too."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        options = mark_of(member)
        if options is not None:
            yield Marked(name, options.get("specname") or name, options, member)


def hooks_in(cls: type) -> set[str]:
    """The hooks that a class provides, joins or wraps."""
    return {found.hook for found in marked(cls)}


def mark_of(member: Any) -> Mapping[str, Any] | None:
    """What ``@hookimpl`` left on a member, or on the function inside of a class method, a property, a partial."""
    inner = member
    for kinds, attribute in _AROUND:
        inner = getattr(inner, attribute) if isinstance(inner, kinds) else inner
    found = (inspect.getattr_static(each, "buttress_impl", None) for each in (member, inner))
    return next((options for options in found if isinstance(options, Mapping)), None)


def attributes_of(plugin: Any) -> dict[str, Any]:
    """The attributes that an object itself has; those of its class, and what ``__getattr__`` makes up, are left out."""
    with suppress(AttributeError):  # a class with __slots__
        return dict(object.__getattribute__(plugin, "__dict__"))
    return {}
