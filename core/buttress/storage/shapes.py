"""The shapes of JSON that is read from files, as pydantic models: what is wrong is one error with file and place."""

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
"""How many of something there are."""
Size = Annotated[int, Field(ge=1, le=10**15)]
"""A number of examples that shares are taken of."""
Epoch = Annotated[int, Field(ge=1, le=10**9)]
"""Number of an epoch, from 1."""


class Shape(BaseModel):
    """What a JSON object has to hold. Kinds are not converted; what else it holds is kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", arbitrary_types_allowed=True)


_Shape = TypeVar("_Shape", bound=Shape)

# Characters of a wrong value that a message shows.
_SHOWN = 60


def checked(shape: type[_Shape], value: object, place: str) -> _Shape:
    """``value`` as a ``shape``.

    Args:
        shape: what is expected.
        value: the value as it was read.
        place: the file, and where in it, for messages.

    Raises:
        CheckpointError: names the first part that is missing or wrong.
    """
    found: _Shape = expect_shape(place, value, TypeAdapter(shape))
    return found


def expect_shape(place: str, value: object, shape: TypeAdapter[Any]) -> Any:
    """Refuse a value of another shape; returns what pydantic makes of it.

    Args:
        place: the file, and where in it, for messages.
        value: the value as it was read.
        shape: what is expected.

    Raises:
        CheckpointError: names the first part that is missing or wrong.
    """
    try:
        return shape.validate_python(value, strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", got {_shown(first['input'])}"
        raise CheckpointError(
            f"{f'{place}: {at}' if at else place} is not what buttress writes there: {_reason(first)}{got}"
        ) from None
    except RecursionError:
        raise CheckpointError(f"{place} is not what buttress writes there: it is nested too deeply") from None


def _reason(fault: Mapping[str, Any]) -> str:
    """What pydantic expected, as the end of a sentence."""
    said = str(fault["msg"]).removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


def _shown(value: object) -> str:
    if isinstance(value, (Mapping, list)):
        return f"{type(value).__name__} of {len(value)} values"
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a number too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
