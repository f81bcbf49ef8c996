"""The settings of a component, read from its signature and documented by its docstring.

The settings of a plugin, model, data set or schedule are the fields of a keyword-only dataclass, or the keyword-only,
annotated parameters of an ``__init__`` or of a function. There is no second place to declare them. This module loads
no torch.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import lru_cache
from inspect import formatannotation
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from buttress.components.plain import plain, unwritable
from buttress.components.readable import readable
from buttress.epochs import Curve
from buttress.errors import PluginError, line_of
from buttress.settings import Epoch, File

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def signature_of(component: Callable[..., object]) -> list[inspect.Parameter]:
    """The keyword-only parameters of a component.

    Raises:
        PluginError: a parameter is positional or variadic, or has no annotation, or both.
    """
    parameters = list(inspect.signature(component, eval_str=True).parameters.values())
    for parameter in parameters:
        faults = list(_faults_of(parameter))
        if faults:
            message = f"{component.__qualname__}: setting {parameter.name!r} {'; and '.join(faults)}"
            raise PluginError(message, place=line_of(component, parameter.name))
    return [_with_value(component, parameter) for parameter in parameters]


def _faults_of(parameter: inspect.Parameter) -> Iterator[str]:
    """All faults of a setting at once: its author repairs them in one round."""
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        yield "must be keyword-only: put '*' before it in __init__ (or kw_only=True on the dataclass)"
    if parameter.annotation is inspect.Parameter.empty:
        yield "needs a type annotation"
    elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY and not _is_writable(parameter.annotation):
        yield _unwritable(parameter)


def _is_writable(annotation: Any) -> bool:
    try:
        return not unwritable(create_model("Single", __config__=_STRICT, field=(readable(annotation), ...)))
    except PydanticUserError:
        return True  # settings_model names what pydantic refuses


def _unwritable(parameter: inspect.Parameter) -> str:
    return (
        f"is a {formatannotation(parameter.annotation)}, and nothing in a config can be one; take a name (str), a "
        "number, a bool, a Path, a Fraction, an Enum, a Literal, or a list, tuple, set or dict of those, and make the "
        "object in __init__"
    )


@dataclass
class _Sample:
    values: list[int] = field(default_factory=list)


_MADE_BY_FACTORY = inspect.signature(_Sample).parameters["values"].default
"""The default that the signature of a dataclass shows for every field with a ``default_factory``."""


def _with_value(component: Callable[..., object], parameter: inspect.Parameter) -> inspect.Parameter:
    """``parameter`` with the value of its default, where the signature shows that a factory makes it."""
    if parameter.default is not _MADE_BY_FACTORY:
        return parameter
    assert is_dataclass(component)  # nobody else has this default
    made_by = component.__dataclass_fields__[parameter.name].default_factory
    assert callable(made_by)
    return parameter.replace(default=made_by())


def documentation_of(component: Callable[..., object]) -> dict[str, str]:
    """The ``Args:`` section of a component's docstring: name of a setting to its text."""
    return documentation_in(inspect.getdoc(component) or "")


def documentation_in(text: str) -> dict[str, str]:
    """The ``Args:`` section of a Google-style docstring, without indentation: name to its text."""
    match = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, flags=re.MULTILINE)
    texts: dict[str, str] = {}
    name = ""
    for line in (match.group(1) if match else "").splitlines():
        entry = re.match(r"^ {4}(\w+): (.*)$", line)
        if entry:
            name, texts[entry.group(1)] = entry.group(1), entry.group(2).strip()
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return texts


@lru_cache(maxsize=256)  # pydantic takes milliseconds to make one
def settings_model(component: Callable[..., object], given: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A pydantic model of the settings of ``component``, without the settings ``given`` by the core.

    Raises:
        PluginError: see ``signature_of``; or a setting has a type that no value of a config has, with its line.
    """
    docs = documentation_of(component)
    fields: dict[str, Any] = {}
    for parameter in signature_of(component):
        if parameter.name in given:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        extra = {"default": plain(default)} if isinstance(default, Curve) else None
        info = Field(default, description=docs.get(parameter.name), json_schema_extra=extra)
        fields[parameter.name] = (readable(parameter.annotation), info)
    try:
        model = create_model(component.__name__, __config__=_STRICT, **fields)
    except PydanticUserError as problem:
        raise PluginError(
            f"{component.__qualname__}: its settings cannot be read: {problem.message}", place=line_of(component)
        ) from problem
    _expect_writable(component, model)
    return model


def _expect_writable(component: Callable[..., object], model: type[BaseModel]) -> None:
    wrong = unwritable(model)
    for parameter in signature_of(component):
        if parameter.name in wrong:
            raise PluginError(
                f"{component.__qualname__}: setting {parameter.name!r} {_unwritable(parameter)}",
                place=line_of(component, parameter.name),
            )


def path_settings(component: Callable[..., object]) -> list[str]:
    """The settings of a component that are paths."""
    return [each.name for each in signature_of(component) if _is_path(each.annotation)]


def file_settings(component: Callable[..., object]) -> list[str]:
    """The settings of a component that are files, or hold some."""
    return [each.name for each in signature_of(component) if _is_file(each.annotation)]


def _is_file(annotation: Any) -> bool:
    return annotation == File or any(map(_is_file, get_args(annotation)))


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def late_epochs(component: Callable[..., object], settings: Mapping[str, Any], epochs: int) -> dict[str, int]:
    """The ``Epoch`` settings of a component, name to value, that a run of ``epochs`` never reaches."""
    late: dict[str, int] = {}
    for parameter in signature_of(component):
        if parameter.name in settings and parameter.annotation in (Epoch, list[Epoch]):
            value = settings[parameter.name]
            beyond = [each for each in (value if isinstance(value, list) else [value]) if each >= epochs]
            late |= {parameter.name: min(beyond)} if beyond else {}
    return late
