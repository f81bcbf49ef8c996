"""A split whose batches have inputs in float64, for runs in that precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from buttress.data.split import Split
from buttress.threat import ThreatModel
from buttress.types import Batch


class DoubleSplit(Split):
    """The examples of another split, with inputs in float64. Everything else is that of the other split.

    Args:
        split: the other split, of any class.
    """

    def __init__(self, split: Split) -> None:
        self._split, self.aux, self.memory_format = split, split.aux, split.memory_format
        self.reads_rows = split.reads_rows

    def __len__(self) -> int:
        return len(self._split)

    @property
    def x(self) -> Tensor:  # type: ignore[override]
        """``[n,*]`` float64 inputs, made anew each time."""
        return self._split.x.double()

    @property
    def y(self) -> Tensor:  # type: ignore[override]
        """Those of the other split, where it has them in memory."""
        return self._split.y

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self._split.example_shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        self._split.check(name, num_classes, threat)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> DoubleSplit:
        return DoubleSplit(self._split.to(device, memory_format))

    def fingerprint(self) -> dict[str, Any]:
        """That of the other split."""
        return self._split.fingerprint()

    def extent(self) -> tuple[float, float] | None:
        return self._split.extent()

    def label_range(self) -> tuple[int, int] | None:
        return self._split.label_range()

    def class_counts(self, num_classes: int) -> list[int] | None:
        return self._split.class_counts(num_classes)

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._split.batches(order, batch_size, start):
            yield replace(batch, x=batch.x.double())

    def batches_at(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        for batch in self._split.batches_at(parts):
            yield replace(batch, x=batch.x.double())
