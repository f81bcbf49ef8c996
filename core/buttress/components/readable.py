"""Types of settings, extended to read values of a config: ``no`` as a bool, ``1/10`` as a number. Loads no torch."""

import inspect
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, PlainSerializer, Strict

from buttress.components.per_epoch import CurveReader, bounds_inside, curve_in
from buttress.components.plain import LENIENT, read_fields, read_member
from buttress.number_text import FLAGS, Word, is_fraction, read_flag, read_number
from buttress.settings import ExactFraction
from buttress.storage.user_path import user_path


def _read_whole(value: object) -> object:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, int) and not -(2**63) <= whole < 2**63:
        raise ValueError("expected an integer that 64 bits hold, got a larger one")
    return whole


def read_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _home(value: object) -> object:
    return user_path(value) if isinstance(value, str) else value


def _untyped(value: object) -> object:
    """A value without a type, at any depth: a fraction is a number, and a word like ``no`` is refused."""
    if isinstance(value, Word):
        raise ValueError(f"expected true, false or null, or quotes around a text ('{value}'), got {value}")
    if isinstance(value, str) and is_fraction(value):
        return read_number(value)
    if isinstance(value, dict):
        return {key: _untyped(part) for key, part in value.items()}
    return [_untyped(part) for part in value] if isinstance(value, list) else value


_READERS: dict[object, tuple[object, ...]] = {
    bool: (BeforeValidator(read_flag),),
    float: (BeforeValidator(read_number),),
    int: (BeforeValidator(_read_whole),),
    tuple: (BeforeValidator(read_tuple),),
    Path: (BeforeValidator(_home), PlainSerializer(str, return_type=str)),
    Any: (BeforeValidator(_untyped),),
}
"""Readers and writers of values of these types."""


_CONTAINERS = (list, dict, set, frozenset, deque, Set, Sequence, Mapping)


def readable(annotation: Any) -> Any:
    """A type that accepts, beside the values of ``annotation``, the ways in which a config may write them.

    A bool may be written as ``no``, an integer as ``10.0``, a number as ``1/10``, a tuple or a set as a list, and a
    member of an ``Enum`` by its value or its name. For ``Any``, ``1/10`` is a number, and a word that may be text or a
    bool is refused.
    """
    kind, parts = get_origin(annotation), get_args(annotation)
    if annotation is Fraction:
        return ExactFraction
    if kind is Annotated:
        if curve_in(annotation):
            return readable(bounds_inside(annotation))
        inner, *metadata = parts
        if inner is Fraction and any(isinstance(each, BeforeValidator) for each in metadata):
            return annotation
        base = get_origin(inner) or inner
        if base in _READERS:  # the reader comes last: constraints apply to what it has read
            return Annotated[(_with_readable_parts(inner), *metadata, *_READERS[base])]
        return Annotated[(readable(inner), *metadata)]
    base = kind or annotation
    if base in _READERS:
        return Annotated[(_with_readable_parts(annotation), *_READERS[base])]
    if base in LENIENT:
        return Annotated[_with_readable_parts(annotation), Strict(False)]
    if inspect.isclass(base) and issubclass(base, Enum):
        return Annotated[annotation, BeforeValidator(partial(read_member, base))]
    if inspect.isclass(base) and is_dataclass(base):
        return Annotated[annotation, BeforeValidator(partial(read_fields, base))]
    return _with_readable_parts(annotation)


def _with_readable_parts(annotation: Any) -> Any:
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind in (Union, UnionType) and (curve := curve_in(annotation)):
        others: Any = tuple(part for part in parts if part is not curve)
        return Annotated[Union[readable(Union[others]), curve], CurveReader(readable(get_args(curve)[0]))]  # noqa: UP007
    if kind in (Union, UnionType):
        # Beside float, 1.0 is not 1.
        read = (part if part is int and float in parts else readable(part) for part in parts)
        return annotation if any(map(_takes_words, parts)) else Union[tuple(read)]  # noqa: UP007
    if kind in (Iterable, Collection):
        return readable(list[parts])  # type: ignore[valid-type]
    if annotation in (list, dict):
        return readable(list[Any] if annotation is list else dict[str, Any])
    if parts and (kind is tuple or kind in _CONTAINERS):
        return kind[tuple(part if part is Ellipsis else readable(part) for part in parts)]
    return annotation


def _takes_words(annotation: Any) -> bool:
    """Whether a word like ``off`` is itself a value of this type."""
    if get_origin(annotation) is Annotated:
        return _takes_words(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return any(isinstance(value, str) and value.lower() in FLAGS for value in get_args(annotation))
    return annotation is str
