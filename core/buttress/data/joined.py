"""A split of several ones, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from buttress.data.examples import NO_LABEL
from buttress.data.split import Split
from buttress.errors import DataError
from buttress.threat import ThreatModel
from buttress.types import Batch


class JoinedSplit(Split):
    """The examples of several splits of one shape and dtype, those of the first one first.

    Args:
        parts: the splits, on one device.

    Raises:
        DataError: their inputs differ in shape or dtype.
    """

    def __init__(self, parts: Sequence[Split]) -> None:
        self.parts = list(parts)
        self.memory_format = self.parts[0].memory_format
        self.reads_rows = any(part.reads_rows for part in self.parts)
        self._starts = torch.tensor([0, *accumulate(map(len, self.parts))])
        for number, part in enumerate(self.parts, 1):
            for kind, got, expected in (
                ("of shape", part.example_shape, self.example_shape),
                ("of", part.dtype, self.dtype),
            ):
                if got != expected and None not in (got, expected):
                    raise DataError(
                        f"data, split extra, source {number}: expected inputs {kind} {expected}, as in source 1, got "
                        f"{got}; every source has the inputs of the training set"
                    )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.parts[0].example_shape

    @property
    def dtype(self) -> torch.dtype | None:
        return self.parts[0].dtype

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Check every part, under the name ``extra, source 2``."""
        for number, part in enumerate(self.parts, 1):
            part.check(f"{name}, source {number}", num_classes, threat)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> JoinedSplit:
        return JoinedSplit([part.to(device, memory_format) for part in self.parts])

    def fingerprint(self) -> dict[str, Any]:
        """Numbers of examples, and what the parts record, each as a list."""
        records = [part.fingerprint() for part in self.parts]
        names = dict.fromkeys(name for record in records for name in record)
        lists = {name: [record.get(name) for record in records] for name in names if name not in ("n", "shape")}
        sizes = {"n": len(self), "shape": list(self.example_shape), "sizes": [len(part) for part in self.parts]}
        return {**sizes, **lists}

    def extent(self) -> tuple[float, float] | None:
        extents = [extent for part in self.parts if (extent := part.extent()) is not None]
        if len(extents) < len(self.parts):
            return None
        return min(low for low, _ in extents), max(high for _, high in extents)

    def class_counts(self, num_classes: int) -> list[int] | None:
        counts = [count for part in self.parts if (count := part.class_counts(num_classes)) is not None]
        return None if len(counts) < len(self.parts) else [sum(each) for each in zip(*counts, strict=True)]

    def label_range(self) -> tuple[int, int] | None:
        """The least and the greatest label of the parts whose labels are in reach; None where none are."""
        ranges = [each for part in self.parts if (each := part.label_range()) is not None]
        return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        return self.batches_at(torch.split(order, batch_size)[start:] if len(order) else ())

    def batches_at(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        owners = [torch.searchsorted(self._starts, positions, right=True) - 1 for positions in parts]
        readers = [iter(self._of_part(number, parts, owners)) for number in range(len(self.parts))]
        for owner in owners:
            numbers = torch.unique(owner).tolist()
            batch = _joined([next(readers[number]) for number in numbers])
            order = owner.argsort(stable=True)
            if torch.equal(order, torch.arange(len(order))):  # drawn source by source, as a rule
                yield batch
            else:
                yield _rows(batch, order.argsort().to(batch.y.device), self.memory_format)

    def _of_part(self, number: int, parts: Sequence[Tensor], owners: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch of one part for each of ``parts`` that has examples of it; ``index`` is that of this split."""
        start = int(self._starts[number])
        own = [positions[owner == number] - start for positions, owner in zip(parts, owners, strict=True)]
        for batch in self.parts[number].batches_at([each for each in own if len(each)]):
            yield batch if batch.index is None else replace(batch, index=batch.index + start)


def _joined(batches: Sequence[Batch]) -> Batch:
    """One batch of several ones, in their order."""
    names = [sorted(batch.aux) for batch in batches]
    if any(each != names[0] for each in names):
        raise DataError(f"data, split extra: expected the same aux in the batches of all sources, got {names}")
    index = [batch.index for batch in batches if batch.index is not None]
    return Batch(
        torch.cat([batch.x for batch in batches]),
        torch.cat([batch.y for batch in batches]),
        torch.cat(index) if len(index) == len(batches) else None,
        {name: torch.cat([batch.aux[name] for batch in batches]) for name in names[0]},
    )


def _rows(batch: Batch, rows: Tensor, memory_format: torch.memory_format) -> Batch:
    """The examples of a batch in the order ``rows``."""
    return Batch(
        batch.x[rows].contiguous(memory_format=memory_format),
        batch.y[rows],
        None if batch.index is None else batch.index[rows],
        {name: value[rows] for name, value in batch.aux.items()},
    )


def has_unlabelled(split: Split) -> bool:
    """Whether an example has no label, as far as labels are in reach."""
    labels = split.label_range()
    return labels is not None and labels[0] == NO_LABEL
