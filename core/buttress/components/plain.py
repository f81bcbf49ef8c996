"""Conversion of settings between their types and the plain values of a config. Loads no torch."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from buttress.epochs import Curve

LENIENT = (set, frozenset, Set, deque, Decimal, date, datetime, time, timedelta, UUID, bytes, complex)
"""Types whose values a config writes as lists, numbers or text."""
# Types whose values stand in a config as text that the type reads.
_TEXT = (PurePath, Fraction, Decimal, UUID, complex)


def plain(value: Any) -> Any:
    """``value`` as a value of a config, from which reading the config gives ``value`` again.

    A set becomes a list in a fixed order, a member of an ``Enum`` its value, a path and a fraction their text.

    Raises:
        ValueError: no value of a config could stand for it.
    """
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, (bool, int, float, str)) else value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return [plain(each) for each in value]
    if isinstance(value, Set):
        return sorted(map(plain, value), key=lambda each: (type(each).__name__, each))
    if isinstance(value, Curve):
        return {value.shape: plain(value.points)}
    if isinstance(value, _TEXT):
        return str(value).strip("()") if isinstance(value, complex) else str(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, re.Pattern)):
        return value.decode() if isinstance(value, bytes) else plain(value.pattern)
    if isinstance(value, BaseModel):
        return plain(dict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise ValueError(f"{value!r} is a {type(value).__name__}, which no config can hold")


def read_member(kind: type[Enum], value: object) -> object:
    """The member of an ``Enum`` that has this value or this name."""
    if isinstance(value, kind):
        return value
    matching = [member for name, member in kind.__members__.items() if value == member.value or value == name]
    if not matching or isinstance(value, bool):
        choices = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"expected one of {choices}, got {value!r}")
    return matching[0]


def read_fields(kind: type, value: object) -> object:
    """An object of a dataclass with these fields."""
    if not isinstance(value, Mapping):
        return value
    try:
        return TypeAdapter(kind).validate_python(dict(value))
    except ValidationError as failure:
        wrong = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in failure.errors())
        raise ValueError(f"expected the fields of {kind.__name__}, got {value!r}: {wrong}") from None


def unwritable(model: type[BaseModel]) -> list[str]:
    """The names of the fields whose type, or a member of whose union, no value of a config has: ``Callable``."""
    try:
        model.model_json_schema(schema_generator=_Writable)
        return []
    except PydanticInvalidForJsonSchema:
        return [name for name, field in model.model_fields.items() if not _is_writable(field)]


def _is_writable(field: FieldInfo) -> bool:
    wanted: Any = Annotated[field.annotation, field]
    single = create_model("Single", __config__=ConfigDict(arbitrary_types_allowed=True), field=(wanted, ...))
    try:
        single.model_json_schema(schema_generator=_Writable)
        return True
    except PydanticInvalidForJsonSchema:
        return False


class _Writable(GenerateJsonSchema):
    """Refuses types that have no schema in JSON, also as one of several types."""

    def is_subclass_schema(self, schema: Any) -> Any:
        """Refuse ``type[...]``: a class is no value of a config."""
        raise PydanticInvalidForJsonSchema(str(schema))

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        if kind == "skipped-choice":
            raise PydanticInvalidForJsonSchema(detail)
