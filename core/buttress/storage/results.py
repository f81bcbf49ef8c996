"""JSON files that numbers are quoted from: sealed when written; seal and shape are checked when they are read.

Each kind of file has a model of its shape in the room that writes it. A seal tells damage from what was written, and is
no signature: whoever edits a file can seal it again. So the shape is checked too, and a number that nobody could have
measured is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from buttress.errors import CheckpointError
from buttress.storage.files import read_json
from buttress.storage.seals import KEY, expect_seal, read_sealed

NOT_VERIFIED = "not verified (written by an older version)"
"""Said wherever a number is quoted from a file without a seal."""

# Characters of a wrong value that a message shows.
_SHOWN = 60

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
    """What a JSON object has to hold; it may hold more."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Result(NamedTuple):
    """What a file of results holds.

    Args:
        body: without its seal.
        verified: it has one; files of older versions have none.
    """

    body: Any
    verified: bool


def read_result(path: Path) -> Result:
    """The value of a JSON file, its seal checked where it has one.

    Raises:
        CheckpointError: missing, no JSON, or not byte for byte as it was sealed.
    """
    found = read_json(path)
    if not (isinstance(found, dict) and KEY in found):
        return Result(found, False)
    expect_seal(path, found)
    return Result({key: value for key, value in found.items() if key != KEY}, True)


def read_object(path: Path, shape: TypeAdapter[Any], *, sealed: bool = False) -> Result:
    """What a JSON file holds, its seal and its shape checked.

    Args:
        path: the file.
        shape: of its value.
        sealed: every version has sealed such files; else those of older versions may have no seal.

    Raises:
        CheckpointError: missing, damaged, or of another shape.
    """
    found = Result(read_sealed(path), True) if sealed else read_result(path)
    expect_shape(str(path), found.body, shape)
    return found


def expect_shape(place: str, value: object, shape: TypeAdapter[Any]) -> None:
    """Refuse what has another shape.

    Args:
        place: the file, and where in it, for the message.
        value: the value there.
        shape: what is expected.

    Raises:
        CheckpointError: says where the first difference is.
    """
    try:
        shape.validate_python(value, strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        where = f"{place}: {at}" if at else place
        raise CheckpointError(
            f"{where} is not what buttress writes there: {first['msg']}, got {_shown(first['input'])}"
        ) from None


def _shown(value: object) -> str:
    if isinstance(value, (Mapping, list)):
        return f"{type(value).__name__} of {len(value)} values"
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a number too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
