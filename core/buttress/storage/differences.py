"""The leaves in which two JSON trees differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = object()
"""Stands for the value of a leaf that one of the trees does not have."""


def differences(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that is not the same: its path, its value in ``one`` and in ``other``.

    A list of mappings with one key each, as configs list plugins, counts as a mapping where the other list has the same
    keys in the same order: ``plugins.rwp.k2``. NaN is the same as NaN.
    """
    one, other = _by_name(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(one.get(key, ABSENT), other.get(key, ABSENT), inner)
    elif one is ABSENT or other is ABSENT or (one != other and not (one != one and other != other)):
        yield place, one, other


def difference_lines(old: Any, new: Any) -> Iterator[str]:
    """``"a.b: 1, now 2"`` for every leaf of two JSON trees that is not the same; nothing is as good as null."""
    for place, before, now in differences(old, new):
        if _json(before) != _json(now):
            yield difference_line(place, before, now)


def difference_line(place: str, before: object, now: object) -> str:
    """``"a.b: 1, now 2"``."""
    return f"{place}: {_json(before)}, now {_json(now)}"


def _json(value: object) -> str:
    return json.dumps(None if value is ABSENT else value)


def _by_name(one: Any, other: Any) -> tuple[Any, Any]:
    if not (_is_named(one) and _is_named(other)):
        return one, other
    named, others = ({name: value for entry in each for name, value in entry.items()} for each in (one, other))
    return (named, others) if list(named) == list(others) and len(named) == len(one) == len(other) else (one, other)


def _is_named(tree: object) -> bool:
    return (
        isinstance(tree, Sequence)
        and not isinstance(tree, str)
        and all(isinstance(entry, Mapping) and len(entry) == 1 for entry in tree)
    )
