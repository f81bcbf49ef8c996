"""A split of 8-bit images that stay in a file, of which the rows of a batch are read when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buttress.data.eight_bit import inputs
from buttress.data.examples import NO_LABEL
from buttress.data.mapped_array import MappedArray
from buttress.data.split import Split, least_label
from buttress.errors import DataError
from buttress.storage.fingerprints import sha256_of_parts
from buttress.threat import ThreatModel
from buttress.types import Batch

HASHED_WHOLE = 2**30
"""Bytes of images up to which a fingerprint holds the hash of all of them; of more, that of SAMPLED ones."""
SAMPLED = 1024
_CPU = torch.device("cpu")


class MappedSplit(Split):
    """Images in a file, uint8. A batch of them is made float32, divided by 255, on the device.

    A thread reads the images of the next batch while one is in use.

    Args:
        images: ``[n,H,W,C]``, or ``[n,*]`` in another order of the axes.
        labels: ``[n]`` integers, or None for images without labels.
        channels_last: whether the last axis of ``images`` is that of the channels.
        device: device of the batches.
        memory_format: memory format of the batches' inputs.
    """

    def __init__(
        self,
        images: MappedArray,
        labels: MappedArray | None,
        *,
        channels_last: bool,
        device: torch.device = _CPU,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._images, self._labels, self._channels_last = images, labels, channels_last
        self._device, self.memory_format = device, memory_format

    def __len__(self) -> int:
        return len(self._images)

    @property
    def example_shape(self) -> tuple[int, ...]:
        shape = self._images.shape[1:]
        return (shape[-1], *shape[:-1]) if self._channels_last else shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Check that labels are in range and that the box holds images, which are in [0, 1] by construction.

        Raises:
            DataError: names the fault.
        """
        if threat.box is not None and not (threat.box[0] <= 0 and threat.box[1] >= 1):
            raise DataError(
                f"data, split {name}: expected images inside of threat.box {list(threat.box)}, got 8-bit ones, which "
                "are in [0, 1]; set threat.box: [0, 1]"
            )
        least, greatest = self.label_range()
        if least < least_label(name) or greatest >= num_classes:
            position = 0
            for part in self._label_parts():
                wrong = ((part < least_label(name)) | (part >= num_classes)).nonzero()
                if len(wrong):
                    raise DataError(
                        f"data, split {name}: label out of range at example {position + int(wrong[0])}: expected "
                        f"{least_label(name)} to {num_classes - 1}, got {int(part[wrong[0]])}; renumber the labels of "
                        f"{self._labels.name if self._labels else self._images.name} or set num_classes"
                    )
                position += len(part)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> MappedSplit:
        return MappedSplit(
            self._images,
            self._labels,
            channels_last=self._channels_last,
            device=device,
            memory_format=memory_format,
        )

    def fingerprint(self) -> dict[str, Any]:
        """That of the same examples in memory; above ``HASHED_WHOLE`` bytes of images it has a sample of them.

        The sample is ``SAMPLED`` images at equal distances, the first and the last among them. Labels are hashed whole.
        """
        n, shape = len(self), self.example_shape
        labels = sha256_of_parts(self._label_parts(), torch.int64, [n])
        known = {"n": n, "shape": list(shape), "labels": labels}
        if self._images.nbytes <= HASHED_WHOLE:
            parts = map(self._on_cpu, self._images.parts())
            return {**known, "inputs": sha256_of_parts(parts, torch.float32, [n, *shape])}
        places = np.linspace(0, n - 1, SAMPLED).astype(np.int64)
        sample = self._on_cpu(self._images.rows(places))
        return {**known, "sampled inputs": sha256_of_parts([sample], torch.float32, [n, *shape])}

    def extent(self) -> None:
        """None: most images have not been read."""

    def label_range(self) -> tuple[int, int]:
        return self._label_range

    @cached_property
    def _label_range(self) -> tuple[int, int]:
        ranges = [(int(part.min()), int(part.max())) for part in self._label_parts()]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def class_counts(self, num_classes: int) -> list[int]:
        counts = torch.zeros(num_classes, dtype=torch.int64)
        for part in self._label_parts():
            counts += torch.bincount(part[part > NO_LABEL], minlength=num_classes)
        return counts.tolist()

    def _label_parts(self) -> Iterator[Tensor]:
        """All labels in their order, int64, some at a time."""
        if self._labels is None:
            step = 2**20
            for first in range(0, len(self), step):
                yield torch.full((min(step, len(self) - first),), NO_LABEL)
            return
        for part in self._labels.parts():
            yield torch.from_numpy(part.astype(np.int64))

    # Batches

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        return self.batches_at(torch.split(order, batch_size)[start:] if len(order) else ())

    def batches_at(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, "mapped images") as reader:
            ahead = None
            for number, positions in enumerate(parts):
                rows = ahead.result() if ahead else self._read(positions)
                ahead = reader.submit(self._read, parts[number + 1]) if number + 1 < len(parts) else None
                yield self._batch(positions, *rows)

    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The images at some positions as they are in the file, and their labels, int64."""
        places = positions.numpy()
        self._images.prefetch(places)
        images = torch.from_numpy(self._images.rows(places))
        if self._labels is None:
            return images, torch.full((len(places),), NO_LABEL)
        return images, torch.from_numpy(self._labels.rows(places).astype(np.int64))

    def _batch(self, positions: Tensor, images: Tensor, labels: Tensor) -> Batch:
        on_device = images.to(self._device)
        x = inputs(on_device.movedim(-1, 1) if self._channels_last else on_device)
        x = x.contiguous(memory_format=self.memory_format)
        return Batch(x, labels.to(self._device), positions.to(self._device))

    def _on_cpu(self, images: np.ndarray) -> Tensor:
        """float32 inputs of rows of the file."""
        rows = torch.from_numpy(np.array(images))
        return inputs(rows.movedim(-1, 1) if self._channels_last else rows)


def check_mapped(images: MappedArray, labels: MappedArray | None) -> None:
    """Expect uint8 images ``[n,*]``, n at least 1, and an integer label for each.

    Raises:
        DataError: names the array, and what it is.
    """
    if images.dtype != np.uint8 or len(images.shape) < 2 or images.nbytes == 0:
        cure = ", or have float images read into memory by {name: npz, path: FILE}" if images.dtype.kind == "f" else ""
        raise DataError(
            f"{images.name}: expected uint8 images [n,H,W,C], got {images.dtype} {images.shape}; save them as "
            f"uint8{cure}"
        )
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(
            f"{labels.name}: expected {len(images):,} integer labels, one for each image, got {labels.dtype} "
            f"{labels.shape}; name the labels of these images"
        )
