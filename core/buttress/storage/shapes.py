"""Check JSON that is read from files against pydantic models; an error names the file and the place in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from buttress.errors import CheckpointError

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""An accuracy, or another part of a whole."""
Number = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
"""Any finite number."""
Count = Annotated[int, Field(ge=0, le=10**15)]
"""A number of things."""
Size = Annotated[int, Field(ge=1, le=10**15)]
"""A number of examples that shares are taken of."""
Epoch = Annotated[int, Field(ge=1, le=10**9)]
"""Number of an epoch, from 1."""


class Shape(BaseModel):
    """Model of a JSON object. Types are not converted; further keys are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", arbitrary_types_allowed=True)


_Shape = TypeVar("_Shape", bound=Shape)

# Characters of a wrong value that a message shows.
_SHOWN = 60


def parse_shape(shape: type[_Shape], value: object, place: str) -> _Shape:
    """Check a value and make a ``shape`` of it.

    Args:
        shape: the expected shape.
        value: the value as it was read.
        place: the file, and where in it, for messages.

    Raises:
        CheckpointError: names the first part that is missing or wrong.
    """
    instance: _Shape = expect_shape(place, value, TypeAdapter(shape))
    return instance


def expect_shape(place: str, value: object, shape: TypeAdapter[Any]) -> Any:
    """Refuse a value of another shape; returns what pydantic makes of it.

    Args:
        place: the file, and where in it, for messages.
        value: the value as it was read.
        shape: the expected shape.

    Raises:
        CheckpointError: names the first part that is missing or wrong.
    """
    try:
        return shape.validate_python(value, strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", got {_shown(first['input'])}"
        raise CheckpointError(
            f"{f'{place}: {key}' if key else place} is not what buttress writes there: {_reason(first)}{got}"
        ) from None
    except RecursionError:
        raise CheckpointError(f"{place} is not what buttress writes there: it is nested too deeply") from None


def _reason(fault: Mapping[str, Any]) -> str:
    """The expectation of pydantic, as the end of a sentence."""
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    if isinstance(value, (Mapping, list)):
        return f"{type(value).__name__} of {len(value)} values"
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a number too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
