"""Read JSON files that numbers are quoted from, and check their seal and their shape.

Each kind of file has a model of its shape in the room that writes it. A seal tells damage from what was written, and is
no signature: whoever edits a file can seal it again. So the shape is checked too, and a number that nobody could have
measured is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from buttress.storage.reading import read_json
from buttress.storage.seals import KEY, expect_seal, read_sealed
from buttress.storage.shapes import expect_shape

NOT_VERIFIED = "not verified (written by an older version)"
"""Mark of every number that is quoted from a file without a seal."""


class Content(NamedTuple):
    """The content of a file of results.

    Args:
        body: the JSON value without its seal.
        verified: whether it has a seal; files of older versions have none.
    """

    body: Any
    verified: bool


def read_result(path: Path) -> Content:
    """The value of a JSON file, its seal checked where it has one.

    Raises:
        CheckpointError: missing, no JSON, or not byte for byte as it was sealed.
    """
    value = read_json(path)
    if not (isinstance(value, dict) and KEY in value):
        return Content(value, False)
    expect_seal(path, value)
    return Content({key: value for key, value in value.items() if key != KEY}, True)


def read_object(path: Path, shape: TypeAdapter[Any], *, sealed: bool = False) -> Content:
    """Read a JSON file and check its seal and its shape.

    Args:
        path: the file.
        shape: shape of its value.
        sealed: every version has sealed such files; else those of older versions may have no seal.

    Raises:
        CheckpointError: missing, damaged, or of another shape.
    """
    result = Content(read_sealed(path), True) if sealed else read_result(path)
    expect_shape(str(path), result.body, shape)
    return result
