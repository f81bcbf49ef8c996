"""The files of ``buttress analyze``: the answer of a part is written with a seal, and checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from buttress.analysis.parts import PARTS
from buttress.errors import CheckpointError
from buttress.storage.results import Content, read_object
from buttress.storage.seals import write_sealed


def write_answer(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write an answer, sealed.

    Raises:
        StorageError: the disk is full or refuses.
    """
    write_sealed(path, numbers)


def read_answer(path: Path) -> Content:
    """An answer, its seal and its shape checked.

    Raises:
        CheckpointError: missing, damaged, or no answer of a part.
    """
    for part in PARTS.values():
        if path.stem.startswith(part.files):
            return read_object(path, TypeAdapter(part.answer))
    beginnings = ", ".join(part.files for part in PARTS.values())
    raise CheckpointError(f"{path} is not named like the answer of a part: expected {beginnings}", path=path)
