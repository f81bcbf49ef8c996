"""Write and read the ``audit.json`` of a run: findings about every set of its weights that was audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from buttress.audit.finding import Status
from buttress.precision import FULL
from buttress.storage.results import NOT_VERIFIED, read_result
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Epoch, Shape, expect_shape


class RecordedFinding(Shape):
    """A finding with the weights that it is about; the mark warns a reader who cannot rely on it."""

    check: str
    status: Status
    reason: str
    cure: str
    track: str | None
    checkpoint: str | None
    epoch: Epoch | None
    weights_sha256: str
    precision: str = FULL
    mark: str = ""


class Audit(Shape):
    """The content of the file."""

    findings: list[RecordedFinding]


_AUDIT = TypeAdapter(Audit)


def write_audit(path: Path, findings: Sequence[Mapping[str, Any]]) -> None:
    """Write the findings, sealed; those that came from a file without a seal keep their mark.

    Raises:
        StorageError: the disk is full or refuses.
    """
    rows = [{key: value for key, value in row.items() if key != "mark" or value} for row in findings]
    write_sealed(path, {"findings": rows})


def read_audit(path: Path) -> list[dict[str, Any]]:
    """Read the findings, each with its ``mark``, and check seal and shape.

    Raises:
        CheckpointError: missing, damaged, or no findings of an audit.
    """
    body, verified = read_result(path)
    if isinstance(body, list) and not verified:  # older versions wrote the bare list
        body = {"findings": body}
    expect_shape(str(path), body, _AUDIT)
    return [{**row, "mark": row.get("mark", "") if verified else NOT_VERIFIED} for row in body["findings"]]
