"""``buttress pseudo-label``: label images by the predictions of a saved model, for ``data.extra`` of other runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buttress.components.place import OVERRIDE, Place
from buttress.components.validation import validate
from buttress.config.component_section import ComponentSection
from buttress.config.file import ConfigFile
from buttress.config.yaml_source import YamlSource, parse_yaml
from buttress.console.reporter import Reporter
from buttress.console.tables import fitted, percent
from buttress.data import NO_LABEL, Data, Split, check_data
from buttress.errors import ConfigError, DataError, InterruptionError, ModelError
from buttress.evaluation.image_array import ImageArray
from buttress.evaluation.subject import ModelUnderAttack
from buttress.nn.finite import remark_on
from buttress.processes import interrupted_by_signals
from buttress.scoring.worst_case import share_of
from buttress.storage.files import write_with
from buttress.storage.new_file import expect_new_file
from buttress.storage.seals import write_sealed
from buttress.training.dataset import load_section
from buttress.training.device import placed
from buttress.training.manifest import hardware

_OPTION = Place("--data")
# Quantiles of the confidences that the JSON file holds.
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True)
class Request:
    """The images that are to be labelled, and the file that is to be written.

    Args:
        data: YAML of a data set, as ``data`` in a config has it: ``{name: npz, path: FILE}``, or its name alone.
        output: ``.npz`` file to write, or ``.npy`` for the labels alone; a ``.json`` file of the same name is written
            beside it.
        split: split of the data set; None for ``extra`` where it has one, else ``train``.
        min_confidence: least probability of the predicted class, in [0, 1); images below it are left out, or have no
            label where labels are written alone.

    Raises:
        ConfigError: ``min_confidence`` is out of range, or one of the files exists or cannot be written there.
    """

    data: str
    output: Path
    split: str | None = None
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence < 1:
            raise ConfigError("expected a probability in [0, 1)", key=f"--min-confidence {self.min_confidence}")
        expect_new_file(self.output, ".npy" if self.labels_only else ".npz")
        expect_new_file(self.record, ".json")

    @property
    def labels_only(self) -> bool:
        """Whether the images, which lie in a file already, are not written."""
        return self.output.suffix == ".npy"

    @property
    def record(self) -> Path:
        """The JSON file beside ``output``."""
        return self.output.with_suffix(".json")


@dataclass(frozen=True)
class _Images:
    """The split that is to be labelled, on the device of the model.

    Args:
        split: its examples.
        name: name of the split.
        dataset: name of the data set, and all its settings.
    """

    split: Split
    name: str
    dataset: Mapping[str, Any]


@dataclass(frozen=True)
class _Labels:
    """The labels of n images.

    Args:
        predicted: ``[n]`` int64.
        confidence: ``[n]`` float64, the probability of the predicted class.
        given: ``[n]`` int64, the labels of the data set; ``NO_LABEL`` where it has none.
        kept: ``[n]`` bools: whether the confidence is high enough.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    given: NDArray[np.int64]
    kept: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """``[n]`` bools: whether an image is kept, and the data set has a label of it."""
        known: NDArray[np.bool_] = self.kept & (self.given != NO_LABEL)
        return known

    @property
    def as_written(self) -> NDArray[np.integer[Any]]:
        """``[n]``, ``NO_LABEL`` where the confidence is too low; two bytes each where they suffice."""
        dtype = np.int16 if self.predicted.max() <= np.iinfo(np.int16).max else np.int64
        return np.where(self.kept, self.predicted, NO_LABEL).astype(dtype)

    def row(self, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        """The numbers about those images that ``chosen`` ``[n]`` marks."""
        known = self.known & chosen
        right = self.predicted[known] == self.given[known]
        return {
            "images": int(chosen.sum()),
            "kept": int((self.kept & chosen).sum()),
            "correct": share_of(right) if known.any() else None,
        }


def pseudo_label(subject: ModelUnderAttack, request: Request, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Label images by the class that a model in eval mode finds most probable, and write both into an ``.npz`` file.

    The file holds ``image`` and ``label``, for the data sets ``npz`` and ``mapped``. The images are uint8 if every
    one is k/255 exactly, else float32. A ``.npy`` file holds the labels alone, in the order of the images.

    Args:
        subject: model with its weights.
        request: images and output.
        reporter: reporter that shows progress.

    Returns:
        The content of the JSON file, see docs/how-to/more_data.md.

    Raises:
        InputError: the data set does not load, or its examples are not such as the model was trained on; the model
            gives logits that are not finite; no image is kept.
        InterruptionError: Ctrl-C or another signal asked to stop. Nothing has been written.
        StorageError: the disk is full or refuses.
    """
    images = _load_images(subject, request)
    reporter = reporter or Reporter()
    if remark := remark_on(subject.model):
        reporter.say(f"note: {remark}")
    try:
        with interrupted_by_signals(), reporter:
            array, labels = _label(subject, images.split, request, reporter)
            return _write(subject, request, images, array, labels)
    except KeyboardInterrupt as stop:
        raise InterruptionError(f"stopped by {str(stop) or 'Ctrl-C'}; nothing was written") from None


def result_table(result: Mapping[str, Any], subject: ModelUnderAttack) -> str:
    """The result as a table of the predicted classes."""
    labelled = result["all"]["correct"] is not None
    rows = [
        [name, row["images"], row["kept"], *([_percent(row)] if labelled else [])]
        for name, row in [*enumerate(result["classes"]), ("all", result["all"])]
    ]
    header = ["label", "images", "kept", *(["correct %"] if labelled else [])]
    whole = result["all"]["correct"]
    note = "" if not labelled else f"\ncorrect: share of the kept images whose given label it is (n = {whole['n']})"
    limit = f", confidence >= {result['min_confidence']}" if result["min_confidence"] else ""
    return (
        f"{subject}, {result['split']} split of {result['dataset']['name']}, {result['precision']}{limit}\n\n"
        f"{fitted(header, rows, names=1)}{note}\n\nwritten to {result['file']}"
    )


def _percent(row: Mapping[str, Any]) -> str:
    return "" if row["correct"] is None else percent(row["correct"]["accuracy"])


def _load_images(subject: ModelUnderAttack, request: Request) -> _Images:
    file = _with_data(subject.file, request.data)
    section = validate(ComponentSection, file.source.value["data"], file.place / "data")
    assert isinstance(section, ComponentSection)
    data, settings = load_section(file, "data", section)
    name = request.split or ("extra" if data.extra is not None else "train")
    split = data.splits().get(name)
    if split is None:
        raise ConfigError(
            f"the data set has no {name} split; choose one of {', '.join(data.splits())}", key=f"--split {name}"
        )
    split = placed(split, subject.file)
    with _OPTION.error_context():
        check_data(replace(subject.data, extra=split), subject.threat)
        _expect_same_classes(data, split, subject.data.num_classes)
    dataset = {"name": section.chosen, "settings": settings}
    return _Images(split, name, dataset)


def _with_data(file: ConfigFile, text: str) -> ConfigFile:
    """The config with another data set, whose relative paths and modules are looked up in the working folder.

    What it names comes from the user's own command line, so that nobody is asked whether it is trusted.
    """
    line = f"{OVERRIDE}--data"
    value = parse_yaml(text, line).value
    if not isinstance(value, (str, dict)):
        raise ConfigError(
            f"expected a data set like '{{name: npz, path: FILE}}', or its name alone, got {text!r}", key=_OPTION
        )
    data = {"name": value} if isinstance(value, str) else value
    tree = {**file.source.value, "data": data, "modules": str(Path.cwd())}
    places = {path: place for path, place in file.source.places.items() if path[:1] != ("data",)}
    return ConfigFile(YamlSource(tree, file.source.name, {**places, ("data",): line}), file.plugins_file)


def _expect_same_classes(data: Data, split: Split, num_classes: int) -> None:
    """Refuse labels of another number of classes; examples without labels may be of any."""
    unlabelled = split.label_range() == (NO_LABEL, NO_LABEL)
    if not unlabelled and data.num_classes != num_classes:
        raise DataError(
            f"expected {num_classes} classes, as the model has, got {data.num_classes}; choose images of the same "
            "classes, or set num_classes where the data set has it"
        )


@torch.no_grad()
def _label(
    subject: ModelUnderAttack, split: Split, request: Request, reporter: Reporter
) -> tuple[NDArray[Any] | None, _Labels]:
    """The images that are kept, as they are written, and the labels of all; None where labels are written alone."""
    n, batch_size = len(split), subject.file.config.evaluation.batch_size
    images = None if request.labels_only else ImageArray(n, split.example_shape)
    columns: list[tuple[Tensor, ...]] = []
    reporter.begin(-(-n // batch_size), 0, "labelling")
    for number, batch in enumerate(split.batches(torch.arange(n), batch_size)):
        logits = subject.at_work.logits(batch.x)
        _expect_finite(subject, logits, number * batch_size)
        confidence = logits.double().softmax(1).amax(1)
        kept = confidence >= request.min_confidence
        if images is not None:
            images.append(batch.x[kept])
        columns.append(tuple(column.cpu() for column in (logits.argmax(1), confidence, batch.y, kept)))
        reporter.advance("labelling")
    labels = _Labels(*(torch.cat(parts).numpy() for parts in zip(*columns, strict=True)))
    if not labels.kept.any():
        raise ConfigError(
            f"none of {n} images reaches it, the highest confidence is {labels.confidence.max()}; lower it",
            key=f"--min-confidence {request.min_confidence}",
        )
    return None if images is None else images.array, labels


def _expect_finite(subject: ModelUnderAttack, logits: Tensor, first: int) -> None:
    bad = (~torch.isfinite(logits)).any(1).nonzero()
    if len(bad):
        raise ModelError(
            f"pseudo-label: the logits of {subject} are not finite for image {first + int(bad[0])}, so that it has no "
            "label; choose other weights, or leave the image out"
        )


def _write(
    subject: ModelUnderAttack, request: Request, images: _Images, array: NDArray[Any] | None, labels: _Labels
) -> dict[str, Any]:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            if array is None:
                np.save(stream, labels.as_written)
            else:
                np.savez(stream, image=array, label=labels.predicted[labels.kept])

    classes = range(subject.data.num_classes)
    quantiles = np.quantile(labels.confidence, _QUANTILES)
    result = {
        "run": str(subject.home),
        "weights": str(subject.weights),
        **subject.facts,
        "dataset": dict(images.dataset),
        "split": images.name,
        "fingerprint": images.split.fingerprint(),
        "batch_size": subject.file.config.evaluation.batch_size,
        "min_confidence": request.min_confidence,
        "all": labels.row(np.ones(len(labels.predicted), np.bool_)),
        "classes": [labels.row(labels.predicted == each) for each in classes],
        "confidence": {f"{share:g}": float(value) for share, value in zip(_QUANTILES, quantiles, strict=True)},
        "dtype": str((labels.as_written if array is None else array).dtype),
        "command": sys.argv,
        **hardware(),
        "file": str(request.output),
    }
    try:
        result["file_sha256"] = write_with(request.output, save)
        write_sealed(request.record, result)
    except BaseException:  # a full disk, Ctrl-C: both files or none
        for path in (request.output, request.record):
            path.unlink(missing_ok=True)
        raise
    return result
