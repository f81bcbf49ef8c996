"""Settings of a component: read from its signature, checked by pydantic, documented by its docstring.

The settings of a plugin, model, data set or schedule are the keyword-only, annotated parameters of its ``__init__``
(or of the function itself). There is no second place to declare them. This module loads no torch.
"""

import inspect
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from fractions import Fraction
from functools import partial
from inspect import formatannotation
from itertools import groupby
from math import floor, inf, isfinite
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Interval
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.errors import PydanticUserError

from buttress.components.plain import LENIENT, read_fields, read_member, unwritable
from buttress.errors import ConfigError, PluginError, nearest
from buttress.number_text import exact_number, expect_float, is_fraction
from buttress.storage.user_path import user_path


def exact_fraction(value: object) -> Fraction:
    """``"8/255"``, ``"0.031"``, ``8/255``-like strings and plain numbers, exact as they are written.

    Raises:
        ValueError: not a finite number that a float can hold, a division by zero, or a text of unreasonable length.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected a number or a fraction like 8/255, got {value!r}")
    if isinstance(value, int):
        expect_float(value)
        return Fraction(value)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"expected a finite number or a fraction like 8/255, got {value!r}")
    return exact_number(str(value))


class Word(str):
    """A word of a config, without quotes, that is text in YAML 1.2 and a value in other languages: ``no``, ``off``.

    The type of the setting decides which is meant; in quotes it is text.
    """

    __slots__ = ()


_FLAGS = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}


def read_flag(value: object) -> bool:
    meant = _FLAGS.get(value.lower()) if isinstance(value, Word) else value
    if not isinstance(meant, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return meant


def read_integer(value: object) -> object:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, int) and not -(2**63) <= whole < 2**63:
        raise ValueError("expected an integer that 64 bits hold, got a larger one")
    return whole


def read_number(value: object) -> object:
    return float(exact_fraction(value)) if isinstance(value, str) and "/" in value else value


def _untyped(value: object) -> object:
    """A value of which no type says what it means, at any depth: a fraction is a number, a word is refused."""
    if isinstance(value, Word):
        raise ValueError(f"expected true, false or null, or quotes around a text ('{value}'), got {value}")
    if isinstance(value, str) and is_fraction(value):
        return read_number(value)
    if isinstance(value, dict):
        return {key: _untyped(part) for key, part in value.items()}
    return [_untyped(part) for part in value] if isinstance(value, list) else value


def _home(value: object) -> object:
    return user_path(value) if isinstance(value, str) else value


def read_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Flag = Annotated[bool, BeforeValidator(read_flag)]
"""``true`` or ``false``; ``yes``, ``no``, ``on`` and ``off`` without quotes are taken too."""
Number = Annotated[float, BeforeValidator(read_number)]
"""A number, which may be written as a fraction: ``1/10``."""

_READERS: dict[object, tuple[object, ...]] = {
    bool: (BeforeValidator(read_flag),),
    float: (BeforeValidator(read_number),),
    int: (BeforeValidator(read_integer),),
    tuple: (BeforeValidator(read_tuple),),
    Path: (BeforeValidator(_home), PlainSerializer(str, return_type=str)),
    Any: (BeforeValidator(_untyped),),
}
"""How values of these types are read from a config, and written into one."""
_CONTAINERS = (list, dict, set, frozenset, deque, Set, Sequence, Mapping)


def readable(annotation: Any) -> Any:
    """``annotation`` as a type that values of a config satisfy.

    Where it expects a bool, ``no`` is one; an integer, ``10.0``; a number, ``1/10``; where it expects a tuple or a
    set, a list is one; where it expects a member of an ``Enum``, its value or its name is one; where it says nothing,
    ``1/10`` is a number, and a word that may be text or a bool is refused.
    """
    kind, parts = get_origin(annotation), get_args(annotation)
    if annotation is Fraction:
        return ExactFraction
    if kind is Annotated:
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
    """Whether a word like ``off`` is a value of this type as it stands."""
    if get_origin(annotation) is Annotated:
        return _takes_words(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return any(isinstance(value, str) and value.lower() in _FLAGS for value in get_args(annotation))
    return annotation is str


def _non_negative(value: object) -> Fraction:
    number = exact_fraction(value)
    if number < 0:
        raise ValueError(f"expected a value >= 0, got {value!r}")
    return number


_AS_TEXT = PlainSerializer(str, return_type=str)
_FRACTION_SCHEMA = WithJsonSchema({"type": ["number", "string"], "description": "a number or a fraction like 8/255"})

ExactFraction = Annotated[Fraction, BeforeValidator(exact_fraction), _AS_TEXT, _FRACTION_SCHEMA]
"""A number kept exactly as written: ``8/255``."""
NonNegativeFraction = Annotated[Fraction, BeforeValidator(_non_negative), _AS_TEXT, _FRACTION_SCHEMA]
"""An exact number >= 0."""


def _infinite(value: object) -> object:
    return inf if value in ("inf", ".inf") else value


Times = Annotated[int, Interval(ge=1, le=100_000)]
"""How often something is repeated; more would never end."""
NonNegative = Annotated[float, Ge(0)]
"""A finite number >= 0."""
NonNegativeOrInf = Annotated[
    float,
    Ge(0),
    AllowInfNan(True),  # not Field(...): before pydantic 2.12 that drops validators that come after it
    BeforeValidator(_infinite),
    PlainSerializer(lambda value: "inf" if value == inf else value),
]
"""A number >= 0, or ``inf``."""


def _epoch(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected an epoch (integer) or a fraction of the epochs in (0, 1), got {value!r}")
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError(f"expected a 0-based epoch (integer >= 0) or a fraction of the epochs in (0, 1), got {value!r}")


Epoch = Annotated[int | float, BeforeValidator(_epoch)]
"""An integer is a 0-based epoch, a float in (0, 1) a fraction of all epochs, floored."""


def path_settings(component: Callable[..., object]) -> list[str]:
    """Those settings of a component that are paths."""
    return [each.name for each in signature_of(component) if _is_path(each.annotation)]


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def _amount(value: object) -> int | float:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    share = read_number(value)
    if isinstance(share, float) and 0 < share < 1:
        return share
    raise ValueError(f"expected a number of examples (integer >= 0) or a share of them in (0, 1), got {value!r}")


Amount = Annotated[int | float, BeforeValidator(_amount)]
"""An integer is a number of examples, a float in (0, 1) or a fraction like 1/5 a share of them, floored."""


def resolve_amount(value: int | float, n: int) -> int:
    """The number of examples, of ``n``, that an ``Amount`` stands for; exact: 0.29 of 100 is 29, 1/3 of 60 is 20."""
    return value if isinstance(value, int) else floor(Fraction(str(value)).limit_denominator(10**9) * n)


def resolve_epoch(value: int | float, epochs: int | None) -> int:
    """The 0-based epoch that an ``Epoch`` setting stands for; exact decimal arithmetic, so 0.29 of 100 is 29."""
    if isinstance(value, int):
        return value
    if epochs is None:
        raise ConfigError(
            f"{value} is a fraction of the epochs, but their number is unknown: pass Engine(epochs=...), "
            "or give the epoch as an integer"
        )
    return floor(Fraction(str(value)) * epochs)


def late_epochs(component: Callable[..., object], settings: Mapping[str, Any], epochs: int) -> dict[str, int]:
    """Those ``Epoch`` settings (name to value) of a component that a run of ``epochs`` never reaches."""
    late: dict[str, int] = {}
    for parameter in signature_of(component):
        if parameter.name in settings and parameter.annotation in (Epoch, list[Epoch]):
            value = settings[parameter.name]
            beyond = [each for each in (value if isinstance(value, list) else [value]) if each >= epochs]
            late |= {parameter.name: min(beyond)} if beyond else {}
    return late


def signature_of(component: Callable[..., object]) -> list[inspect.Parameter]:
    """The keyword-only parameters of a component.

    Raises:
        PluginError: a parameter is positional, variadic or has no annotation.
    """
    parameters = list(inspect.signature(component, eval_str=True).parameters.values())
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise PluginError(
                f"{component.__qualname__}: setting {parameter.name!r} must be keyword-only: "
                f"put '*' before it in __init__ (or kw_only=True on the dataclass)"
            )
        if parameter.annotation is inspect.Parameter.empty:
            raise PluginError(f"{component.__qualname__}: setting {parameter.name!r} needs a type annotation")
    return parameters


def documentation_of(component: Callable[..., object]) -> dict[str, str]:
    """The ``Args:`` section of a component's docstring: setting name to its text."""
    return documentation_in(inspect.getdoc(component) or "")


def documentation_in(text: str) -> dict[str, str]:
    """The ``Args:`` section of a Google-style docstring, without indentation: name to its text."""
    match = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in (match.group(1) if match else "").splitlines():
        entry = re.match(r"^ {4}(\w+): (.*)$", line)
        if entry:
            name, found[entry.group(1)] = entry.group(1), entry.group(2).strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def settings_model(component: Callable[..., object], given: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A pydantic model of the settings of ``component``, without those that the core gives itself (``given``)."""
    docs = documentation_of(component)
    fields: dict[str, Any] = {}
    for parameter in signature_of(component):
        if parameter.name in given:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (readable(parameter.annotation), Field(default, description=docs.get(parameter.name)))
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        model = create_model(component.__name__, __config__=config, **fields)
    except PydanticUserError as problem:
        raise PluginError(f"{component.__qualname__}: its settings cannot be read: {problem.message}") from problem
    wrong = unwritable(model)
    for parameter in signature_of(component):
        if parameter.name in wrong:
            raise PluginError(
                f"{component.__qualname__}: setting {parameter.name!r} is a {formatannotation(parameter.annotation)}, "
                "and nothing in a config can be one; take a name (str) or a number, and make the object in __init__"
            )
    return model


def validate(model: type[BaseModel], values: dict[str, Any], where: "Where") -> BaseModel:
    """``values`` as an instance of ``model``; every problem in one message.

    Raises:
        ConfigError: one line for each problem: file, line, key, what was expected, the nearest known name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        raise ConfigError("\n".join(_lines(model, failure, where, values))) from None


Where = Callable[[tuple[str | int, ...]], str]
"""Turns the path of a key inside a section into ``"file.yaml:12: plugins.pgd.steps"``."""


def in_code(name: str) -> Where:
    """Paths of settings that were given in code and not in a file."""
    return lambda path: ".".join([name, *map(str, path)])


def _lines(model: type[BaseModel], failure: ValidationError, where: Where, values: object) -> list[str]:
    unknown, others = [], []
    for path, errors in _by_key(failure, values):
        if errors[0]["type"] == "extra_forbidden":
            owner = _owner(model, path[:-1])
            unknown.append(f"{where(path)}: unknown key{nearest(str(path[-1]), owner)}")
        else:
            others.append(f"{where(path)}: {_what_is_wrong(errors)}")
    return unknown + others  # unknown keys first: one that is mistyped makes the one that was meant missing


def problems(failure: ValidationError, values: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """For each key that is wrong its path in ``values``, and what was expected and what came."""
    return ((path, _what_is_wrong(errors)) for path, errors in _by_key(failure, values))


def _by_key(failure: ValidationError, values: object) -> Iterator[tuple[tuple[str | int, ...], list[Any]]]:
    """The errors of each key: several where it may be one of several types."""
    located = [(_path(error["loc"], values), error) for error in failure.errors()]
    for path, group in groupby(located, key=lambda pair: pair[0]):
        yield path, [error for _, error in group]


def _path(location: tuple[str | int, ...], values: object) -> tuple[str | int, ...]:
    """The keys of ``location``, without the names that pydantic gives to the members of a union."""
    path: list[str | int] = []
    for part in location:
        if isinstance(values, Mapping):
            path, values = [*path, part], values.get(part)
        elif isinstance(part, int) and isinstance(values, (list, tuple)):
            path, values = [*path, part], values[part] if part < len(values) else None
    return tuple(path)


def _what_is_wrong(errors: Sequence[Any]) -> str:
    if errors[0]["type"] == "missing":
        too_short = isinstance(errors[0]["loc"][-1], int)
        return f"expected more values, got {list(errors[0]['input'])}" if too_short else "required, and not given"
    messages = [error["msg"].removeprefix("Value error, ").replace("Input should be", "expected") for error in errors]
    whole = [message for message in messages if ", got " in message]
    if whole:  # the words of a setting's own check
        return str(whole[0])
    if errors[-1]["type"] == "list_type":
        return f"expected a list, got {errors[-1]['input']!r}{_as_list(errors[-1]['input'])}"
    first, *others = map(str, dict.fromkeys(messages))
    choices = " or ".join([first, *(other.removeprefix("expected ") for other in others)])
    return f"{choices}, got {errors[0]['input']!r}"


def _as_list(value: object) -> str:
    """How ``value`` would be written as a list, for messages."""
    if isinstance(value, Mapping):
        return f"; write each as an entry: [{', '.join(f'{key}: ...' for key in value)}]" if value else ""
    return "" if value is None else f"; write [{value}]"


def _owner(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The keys that are known where ``path`` leads."""
    for part in path:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ())) if field else ()
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return {field.alias or name for name, field in model.model_fields.items()}
