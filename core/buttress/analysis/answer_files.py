"""The files of ``buttress analyze``: what the answer of each part holds, and how it is written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from buttress.errors import CheckpointError
from buttress.storage.results import Result, read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Count, Epoch, Number, Shape, Size

Measured = Number | None
"""A number that was measured; null where it was not finite."""
Edges = Annotated[list[Number], Field(min_length=2)]
Png = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
"""A PNG file in base64."""


class _OfWeights(Shape):
    """An answer about one set of weights."""

    track: str
    checkpoint: str
    epoch: Epoch
    attack: str


class Gap(Shape):
    attack: str
    tracks: dict[str, Any]


class Landscape(_OfWeights):
    n: Size
    inputs: str
    edges: Edges
    mu: list[Number]
    mean: list[Measured]
    sizes: list[Count]
    groups: list[list[Measured]]

    @model_validator(mode="after")
    def _fits(self) -> Landscape:
        points = len(self.mu)
        _expect(len(self.edges) == len(self.sizes) == len(self.groups), "one size and one curve for each group")
        _expect(all(len(losses) == points for losses in (self.mean, *self.groups)), "one loss for each step")
        return self


class Surface(_OfWeights):
    directions: str
    steps: list[Number]
    loss: list[list[Measured]]

    @model_validator(mode="after")
    def _fits(self) -> Surface:
        points = len(self.steps)
        _expect(len(self.loss) == points and all(len(row) == points for row in self.loss), "one loss for each point")
        return self


class Weights(Shape):
    """How the weights of one track are spread."""

    counts: list[Count]
    std: Measured
    largest: Measured
    kurtosis: Measured


class Histogram(Shape):
    layer: str
    checkpoint: str
    edges: Edges
    tracks: dict[str, Weights]

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        bins = len(self.edges) - 1
        _expect(all(len(each.counts) == bins for each in self.tracks.values()), "one count for each bin")
        return self


class Counts(Shape):
    """Training examples in each group after one epoch."""

    epoch: Count
    counts: list[Count]


class LossGroups(Shape):
    attack: str
    source: str
    groups: list[str]
    n: Size
    epochs: Annotated[list[Counts], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> LossGroups:
        _expect(all(len(row.counts) == len(self.groups) for row in self.epochs), "one count for each group")
        return self


class Fit(Shape):
    """How examples with flipped labels are predicted by one set of weights."""

    track: str
    checkpoint: str
    inputs: Literal["clean", "attacked"]
    as_true: Count
    as_other: Count
    as_given: Count


class LabelNoise(Shape):
    attack: str
    n: Size
    rows: list[Fit]


class Moved(Shape):
    """How far one layer group is from other weights."""

    relative: Measured


class Snapshot(Shape):
    epoch: Count
    to_last: dict[str, Moved]


class Distance(Shape):
    groups: dict[str, Any]
    last_epoch: Count
    snapshots: list[Snapshot]

    @model_validator(mode="after")
    def _fits(self) -> Distance:
        _expect(all(set(self.groups) <= set(each.to_last) for each in self.snapshots), "a distance for each group")
        return self


class ByClass(Shape):
    """Number of test examples of each class that one set of weights gets right."""

    track: str
    checkpoint: str
    epoch: Epoch
    clean: list[Count]
    attacked: list[Count]


class Classes(Shape):
    attack: str
    n: Size
    sizes: list[Count]
    rows: Annotated[list[ByClass], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Classes:
        sizes = self.sizes
        _expect(any(sizes), "a class with examples")
        for right in (counts for row in self.rows for counts in (row.clean, row.attacked)):
            fits = len(right) == len(sizes) and all(part <= whole for part, whole in zip(right, sizes, strict=True))
            _expect(fits, "for each class at most as many right as there are")
        return self


class Images(_OfWeights):
    threat: str
    positions: list[Count]
    labels: list[Count]
    predicted: list[Count]
    predicted_attacked: list[Count]
    clean: list[Png]
    attacked: list[Png]
    difference: list[Png]
    amplified: Number

    @model_validator(mode="after")
    def _fits(self) -> Images:
        lists = (self.labels, self.predicted, self.predicted_attacked, self.clean, self.attacked, self.difference)
        _expect(all(len(each) == len(self.positions) for each in lists), "the same number of examples everywhere")
        return self


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"expected {what}")


_SHAPES: dict[str, TypeAdapter[Any]] = {
    "gap": TypeAdapter(Gap),
    "landscape-": TypeAdapter(Landscape),
    "surface-": TypeAdapter(Surface),
    "histogram": TypeAdapter(Histogram),
    "loss_groups": TypeAdapter(LossGroups),
    "label_noise": TypeAdapter(LabelNoise),
    "distance": TypeAdapter(Distance),
    "classes": TypeAdapter(Classes),
    "images-": TypeAdapter(Images),
}
"""The beginning of a file's name to the shape of the answer in it."""


def write_answer(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write an answer, sealed.

    Raises:
        StorageError: the disk is full or refuses.
    """
    write_sealed(path, numbers)


def read_answer(path: Path) -> Result:
    """An answer, its seal and its shape checked.

    Raises:
        CheckpointError: missing, damaged, or no answer of a part.
    """
    for beginning, shape in _SHAPES.items():
        if path.stem.startswith(beginning):
            return read_object(path, shape)
    raise CheckpointError(f"{path} is not named like the answer of a part: expected {', '.join(_SHAPES)}")
