"""Labels that ``buttress pseudo-label`` has written, and the record beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buttress.data.mapped import HASHED_WHOLE, MappedSplit
from buttress.errors import CheckpointError, DataError
from buttress.storage.reading import file_sha256
from buttress.storage.seals import read_sealed

_INPUTS = ("inputs", "sampled inputs")


def pseudo_label_file(images: Path) -> Path:
    """The file in which ``pseudo-label`` keeps labels of ``images`` alone: ``edm.pseudo.npy`` of ``edm.npz``."""
    return images.with_suffix(".pseudo.npy")


def expect_pseudo_labels(split: MappedSplit, images: Path, labels: Path) -> None:
    """Expect that the labels of a split are those that ``pseudo-label`` wrote for its images.

    Args:
        split: images with labels.
        images: file of the images.
        labels: file of the labels, which may be the same.

    Raises:
        DataError: there is no record beside ``labels``, or one of another file or of other images; names the command.
    """
    record = _record(images, labels)
    if labels.stat().st_size <= HASHED_WHOLE and file_sha256(labels) != record["file_sha256"]:
        raise DataError(
            f"{labels}: expected the labels that {labels.with_suffix('.json').name} tells of, got a file that has been "
            f"changed since; {_cure(images)}"
        )
    if labels != images:
        before, now = record["fingerprint"], split.fingerprint()
        if any(before[name] != now[name] for name in ("n", *_INPUTS) if name in before and name in now):
            raise DataError(
                f"{labels}: expected labels of the {len(split):,} images of {images}, got those of {before['n']:,} "
                f"others; {_cure(images)}"
            )


def _record(images: Path, labels: Path) -> Mapping[str, Any]:
    path = labels.with_suffix(".json")
    try:
        record = read_sealed(path)
    except CheckpointError as problem:
        raise DataError(
            f"{labels}: expected labels of buttress pseudo-label, with their record in {path.name}, got: {problem}; "
            f"{_cure(images)}, or set labels: given to take the labels as they are"
        ) from None
    if not {"file_sha256", "fingerprint", "min_confidence"} <= record.keys():
        raise DataError(f"{labels}: expected a record of buttress pseudo-label in {path}, got another file")
    return record


def label_command(images: Path) -> str:
    """The command that labels the images of a file, for messages."""
    return (
        f"buttress pseudo-label RUN --data '{{name: mapped, file: {images}, labels: none}}' --output "
        f"{pseudo_label_file(images)}"
    )


def _cure(images: Path) -> str:
    return f"label them by a trained run: {label_command(images)}"
