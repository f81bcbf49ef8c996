"""JSON of files checked against pydantic models: what is wrong is one error that names file, place and cure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from buttress.errors import CheckpointError


class Part(BaseModel):
    """A part of a file: kinds are not converted, and what is not known is kept as it is."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", arbitrary_types_allowed=True)


_Part = TypeVar("_Part", bound=BaseModel)

# Longest value in a message.
_LONGEST = 60


def checked(model: type[_Part], value: Mapping[str, Any], what: str) -> _Part:
    """``value`` as a ``model``.

    Args:
        model: what is expected.
        value: as it was read.
        what: it is, for messages: ``"runs/a/b/manifest.json"``.

    Raises:
        CheckpointError: names the first part that is missing or wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as problem:
        fault = problem.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the whole"
        got = "" if fault["type"] == "missing" else f", got {_short(fault['input'])}"
        raise CheckpointError(
            f"{what} is damaged, or not written by buttress: {place}: {fault['msg'].lower()}{got}"
        ) from None
    except RecursionError:
        raise CheckpointError(f"{what} is damaged: it is nested too deeply") from None


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
