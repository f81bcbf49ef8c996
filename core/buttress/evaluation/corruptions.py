"""``buttress corruptions``: accuracy on images with common corruptions, from arrays in the layout of CIFAR-10-C.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv 1903.12261. The mean over corruptions and severities is the accuracy that tables of common corruptions have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from buttress.console.reporter import Reporter
from buttress.data import MappedArray, MappedSplit, Split, check_mapped, map_array
from buttress.data.order import subset
from buttress.errors import CheckpointError, ConfigError, DataError, InterruptionError, nearest
from buttress.evaluation.result_file import ShareOf
from buttress.evaluation.subject import ModelUnderAttack
from buttress.evaluation.work import EvaluationWork
from buttress.processes import interrupted_by_signals
from buttress.scoring.cells import RIGHT
from buttress.scoring.worst_case import attack_all, share_of
from buttress.storage.files import finished_files, make_folder
from buttress.storage.results import read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Shape
from buttress.training.manifest import hardware

SEVERITIES = 5
LABELS = "labels"
STANDARD = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The corruptions of the paper's benchmark; a folder may hold more."""


class _CorruptionResult(Shape):
    work: str
    corruption: str
    severities: list[ShareOf]


_RESULT = TypeAdapter(_CorruptionResult)


def measure_corruptions(
    subject: ModelUnderAttack,
    folder: Path,
    chosen: Sequence[str] = (),
    *,
    examples: int | None = None,
    output: Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Measure the accuracy on corrupted images; each corruption is written into a file as soon as it is done.

    A corruption whose file is there already, for the same weights, images and settings, is not measured again.

    Args:
        subject: weights, with their model.
        folder: folder of ``labels.npy`` ``[5n]`` and, for each corruption, ``NAME.npy`` ``[5n,H,W,C]`` uint8: n images
            of each of five severities, one severity after the other.
        chosen: names of corruptions; none for the fifteen of the benchmark.
        examples: number of examples of each severity, the same ones in all; None for all examples.
        output: folder of the results; default ``corruptions/`` in the run, or beside the weights.
        reporter: reporter that shows progress.

    Returns:
        ``corruptions``, name to the five shares, mildest first; ``mean``, the mean over all of them; ``files``.

    Raises:
        ConfigError: a corruption is not in the folder.
        DataError: an array is missing, damaged or of a wrong kind, or does not fit the model.
        InterruptionError: Ctrl-C or another signal asked to stop; the same call goes on with what is missing.
    """
    reporter = reporter or Reporter()
    names, goal = _existing(folder, chosen), output or subject.home / "corruptions"
    splits = {name: _split(folder, name, subject) for name in names}  # every file is looked at before hours of work
    make_folder(goal)
    results = {}
    try:
        with interrupted_by_signals():
            for number, (name, split) in enumerate(splits.items(), 1):
                reporter.say(f"{name} ({number} of {len(names)})")
                results[name] = _measured(subject, name, split, examples, goal, reporter)
    except KeyboardInterrupt as stop:
        raise InterruptionError(
            f"stopped by {str(stop) or 'Ctrl-C'}; {len(results)} of {len(names)} corruptions are kept in {goal}; give "
            "the same command again to go on"
        ) from None
    shares = {name: result["severities"] for name, result in results.items()}
    accuracies = [share["accuracy"] for each in shares.values() for share in each]
    return {
        **subject.facts,
        "folder": str(folder),
        "corruptions": shares,
        "mean": float(np.mean(accuracies)),
        "files": [result["file"] for result in results.values()],
    }


def _existing(folder: Path, chosen: Sequence[str]) -> list[str]:
    """The names of the corruptions to measure, each once."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; expected one with {LABELS}.npy and {STANDARD[0]}.npy")
    known = sorted(path.stem for path in folder.glob("*.npy") if path.stem != LABELS)
    wanted = list(dict.fromkeys(chosen or STANDARD))
    missing = [name for name in wanted if name not in known]
    if missing and chosen:
        raise ConfigError(
            f"{folder} has {', '.join(known) or 'none'}, and no {missing[0]}.npy{nearest(missing[0], known)}",
            key=f"--corruption {missing[0]}",
        )
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)} of the {len(STANDARD)} corruptions of the benchmark; complete it, or "
            f"choose by --corruption among {', '.join(known) or 'none'}"
        )
    return wanted


def _array(path: Path) -> MappedArray:
    array = map_array(path, path.stem)
    if array is None:
        raise DataError(f"{path}: expected a file of np.save, got an .npz; save the array by np.save")
    return array


def _split(folder: Path, name: str, subject: ModelUnderAttack) -> Split:
    """All images of a corruption, on the device of the model."""
    images, labels = _array(folder / f"{name}.npy"), _array(folder / f"{LABELS}.npy")
    check_mapped(images, labels)
    shape, expected = images.shape, subject.data.test.example_shape
    if len(shape) != 4 or (shape[3], *shape[1:3]) != tuple(expected):
        channels, *size = expected
        raise DataError(
            f"{images.name}: expected images [n,{','.join(map(str, [*size, channels]))}] for the model, got "
            f"{list(shape)}; corrupt images of that size"
        )
    if len(images) % SEVERITIES:
        raise DataError(
            f"{images.name}: expected as many images of each of {SEVERITIES} severities, got {len(images)} in all"
        )
    split = MappedSplit(images, labels, channels_last=True)
    split.check(name, subject.data.num_classes, subject.threat)
    test = subject.data.test
    return split.to(next(subject.model.parameters()).device, test.memory_format)


def _measured(
    subject: ModelUnderAttack, name: str, split: Split, examples: int | None, goal: Path, reporter: Reporter
) -> dict[str, Any]:
    """The content of the file of one corruption, which is written unless it is there."""
    of_each = len(split) // SEVERITIES
    chosen = subset(of_each, examples)
    index = torch.cat([chosen + severity * of_each for severity in range(SEVERITIES)])
    config = subject.file.config.evaluation
    facts = {**subject.facts, "corruption": name, "n": len(chosen), "batch_size": config.batch_size}
    work = EvaluationWork(facts, {}, split, index, next(subject.model.parameters()).device.type).name
    if known := _known(goal, work):
        return known
    right = _right(subject, split, index, config.batch_size, reporter)
    path = goal / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}.json"
    result = {
        "run": str(subject.home),
        "weights": str(subject.weights),
        **facts,
        "work": work,
        "severities": [share_of(part.numpy()) for part in right.chunk(SEVERITIES)],
        "command": sys.argv,
        **hardware(),
        "file": str(path),
    }
    write_sealed(path, result)
    return result


def _right(subject: ModelUnderAttack, split: Split, index: Tensor, batch_size: int, reporter: Reporter) -> Tensor:
    """``[n]`` bools: right without an attack."""
    verdicts = attack_all(subject.at_work, [], subject.threat, split, index, batch_size=batch_size, reporter=reporter)
    return torch.from_numpy(verdicts.table[0] == RIGHT)


def _known(goal: Path, work: str) -> dict[str, Any] | None:
    """The newest whole result of that work; None where there is none."""
    for path in reversed(finished_files(goal, "*.json")):
        with suppress(CheckpointError):  # a damaged one is no result
            result: dict[str, Any] = read_object(path, _RESULT).body
            if result["work"] == work:
                return {**result, "file": str(path)}
    return None
