"""Arguments of classes and functions that know nothing of buttress: optimizers of torch, models of the user's own.

The annotation of a parameter gives the type of its value, or else its default does. This module loads no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from buttress.components.place import Place
from buttress.components.readable import read_tuple, readable
from buttress.components.validation import problems
from buttress.errors import all_faults, nearest
from buttress.number_text import read_number

_CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True)
_PLAIN = (bool, int, float, str, NoneType, Any, list, tuple, dict, set, Path, Fraction)


def read_arguments(
    component: Callable[..., object], values: Mapping[str, Any], place: Place, taken: Collection[str] = ()
) -> dict[str, Any]:
    """Read ``values`` of a config as arguments of ``component``, each as the type that its parameter expects.

    Args:
        component: a class or a function; its parameters need neither annotations nor defaults.
        values: argument name to value.
        place: place of the arguments, for messages.
        taken: names of parameters that a config cannot set.

    Raises:
        ConfigError: an unknown argument, with the nearest name; a value of another type; a word like ``no`` where no
            type decides whether it is text. Each problem has a line.
    """
    parameters = signature_parameters(component)
    open_ended = parameters is None or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    known = {name: each for name, each in (parameters or {}).items() if name not in taken and _has_a_name(each)}
    read: dict[str, Any] = {}
    wrong: list[tuple[Place, str]] = []
    for key, value in values.items():
        if key not in known and not open_ended:
            wrong.insert(0, (place / key, f"unknown key{nearest(key, known)}"))
            continue
        try:
            read[key] = TypeAdapter(readable(_expected(known.get(key))), config=_CONFIG).validate_python(value)
        except ValidationError as failure:
            wrong += [(place.under(key, *path), problem) for path, problem in problems(failure, value)]
    if wrong:
        raise all_faults(wrong)
    return read


def signature_parameters(component: Callable[..., object]) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a class or function by name, annotations evaluated if possible; None if unknown."""
    for evaluated in (True, False):
        try:
            return inspect.signature(component, eval_str=evaluated).parameters
        except Exception:  # an annotation that names nothing, or a signature that nobody knows
            continue
    return None


def _has_a_name(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _expected(parameter: inspect.Parameter | None) -> Any:
    """The type that a config's value for ``parameter`` has to have, ``Any`` if unknown."""
    if parameter is None:
        return Any
    stated = None if parameter.annotation is inspect.Parameter.empty else _writable(parameter.annotation)
    if stated is not None:
        return Union[stated, None] if parameter.default is None else stated  # noqa: UP007
    return _like(parameter.default)


def _writable(annotation: Any) -> Any:
    """The part of a type that values of a config can have; None if there is none, as for tensors and functions."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if annotation in (None, *_PLAIN) or kind is Literal:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    if kind is Annotated:
        return annotation if _writable(parts[0]) == parts[0] else None
    if kind in (Union, UnionType):
        members = tuple(member for member in map(_writable, parts) if member is not None)
        return Union[members] if members and set(members) != {NoneType} else None  # noqa: UP007
    if kind in (list, tuple, dict, set, Sequence, Mapping):
        inner = tuple(part if part is Ellipsis else _writable(part) for part in parts)
        return None if None in inner else kind[inner]
    return None


def _like(default: object) -> Any:
    """The type of values like ``default``, for parameters without annotation; strict for bools only."""
    if isinstance(default, bool):
        return bool | None
    if isinstance(default, str):
        return Union[str, Any]  # noqa: UP007
    if isinstance(default, (int, float)):
        return Annotated[Any, BeforeValidator(read_number)]
    if isinstance(default, tuple):
        return Annotated[Any, BeforeValidator(read_tuple)]
    return Any
