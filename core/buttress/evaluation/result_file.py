"""Write and read the files of ``buttress evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from buttress.errors import CheckpointError
from buttress.precision import FULL
from buttress.storage.files import finished_files
from buttress.storage.reading import has_sha256
from buttress.storage.regular_file import open_regular_file
from buttress.storage.results import Content, read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Count, Epoch, Number, Shape, Share, Size


class ShareOf(Shape):
    """A share of n examples with its 95 % interval."""

    accuracy: Share
    low: Share
    high: Share
    n: Size


class AttackRow(Shape):
    """One attack, with the numbers of examples that it saw and broke.

    Its accuracy is null where it saw only the examples that other attacks had left.
    """

    attack: str
    attacked: Count
    wrong: Count
    accuracy: Share | None
    low: Share | None
    high: Share | None
    n: Size
    left: ShareOf
    seconds: Number
    settings: dict[str, Any]


class EvaluationResult(Shape):
    """One call of ``buttress evaluate``."""

    weights: str
    weights_sha256: str
    track: str | None
    checkpoint: str | None
    epoch: Epoch | None
    threat: str
    precision: str = FULL  # older versions wrote none
    split: str
    split_size: Size
    fingerprint: dict[str, Any] | None = None
    samples_sha256: str | None = None
    work: str | None = None  # older versions wrote none
    n: Size
    seed: int
    each: bool
    attacks: list[AttackRow]
    worst: ShareOf


_EVALUATION = TypeAdapter(EvaluationResult)


def write_evaluation(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, sealed.

    Raises:
        StorageError: the disk is full or refuses.
    """
    write_sealed(path, result)


def read_evaluation(path: Path) -> Content:
    """Read a result, and check its seal and its shape.

    Raises:
        CheckpointError: missing, damaged, or no result of an evaluation.
    """
    result = read_object(path, _EVALUATION)
    if not result.body["attacks"]:
        raise CheckpointError(f"{path}: attacks is not what buttress writes there: it is empty", path=path)
    return result


def result_of_work(folder: Path, work: str) -> dict[str, Any] | None:
    """The newest whole result in ``folder`` of the work of that name; None where there is none."""
    for path in reversed(finished_files(folder, "*.json")):
        with suppress(CheckpointError):  # a damaged one is no result
            result: dict[str, Any] = read_evaluation(path).body
            if result.get("work") == work and has_sha256(path.with_suffix(".npz"), str(result["samples_sha256"])):
                return result
    return None


def read_worst(result: Mapping[str, Any], samples: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read verdicts of an evaluation: ``[n]`` positions in the split, and ``[n]`` bools, right in the worst case.

    Args:
        result: content of the JSON file.
        samples: file of the verdicts, beside it.

    Raises:
        CheckpointError: missing, damaged, or not that of the result.
    """
    cure = f"it has the verdicts of {samples.with_suffix('.json').name}; delete that too, and evaluate again"
    sha256 = result.get("samples_sha256")  # older versions wrote none
    if sha256 is not None and not has_sha256(samples, sha256):
        raise CheckpointError(
            f"{samples} is missing or damaged (its sha256 is not the recorded one): {cure}", path=samples
        )
    try:
        with open_regular_file(samples) as stream, np.load(stream, allow_pickle=False) as file:
            index, worst = file["index"], file["worst"]
    except Exception as problem:  # numpy and zipfile raise many kinds; all mean: these are no verdicts
        raise CheckpointError(f"{samples} is missing or damaged ({problem}): {cure}", path=samples) from None
    if not (index.dtype == np.int64 and worst.dtype == np.bool_ and index.shape == worst.shape == (result["n"],)):
        raise CheckpointError(f"{samples} is damaged (expected {result['n']} verdicts): {cure}", path=samples)
    return index, worst
