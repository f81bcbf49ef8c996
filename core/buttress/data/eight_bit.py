"""A split of images that are held with 8 bits a channel, a quarter of the memory of float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from buttress.data.examples import check_inputs, check_labels
from buttress.data.split import Split, least_label
from buttress.storage.fingerprints import sha256_of_parts, sha256_of_tensor
from buttress.threat import ThreatModel
from buttress.types import Batch

_PART = 4096
"""Number of images that are made float at once, where all of them are looked at."""


class EightBitSplit(Split):
    """Images in memory as they are in a file: uint8. A batch of them is float32, divided by 255.

    Args:
        images: ``[n,*]`` uint8.
        y: ``[n]`` int64 labels.
        memory_format: memory format of the batches' inputs.

    Raises:
        DataError: a tensor is not dense, or they differ in length.
    """

    def __init__(self, images: Tensor, y: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__(images, y, memory_format)

    @property
    def x(self) -> Tensor:
        """``[n,*]`` float32 inputs, made anew each time: four times the memory of the images."""
        return inputs(self._images)

    @x.setter
    def x(self, images: Tensor) -> None:
        """Hold ``images [n,*]``, uint8."""
        self._images = images

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self._images.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        if threat.box is not None and not (threat.box[0] <= 0 and threat.box[1] >= 1):
            check_inputs(f"data, split {name}", inputs(self._images), threat)
        check_labels(f"data, split {name}", self.y, num_classes, least=least_label(name))

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> EightBitSplit:
        return EightBitSplit(self._images.to(device), self.y.to(device), memory_format)

    def fingerprint(self) -> dict[str, Any]:
        """That of the same examples in float32."""
        parts = map(inputs, torch.split(self._images, _PART))
        hashes = {
            "inputs": sha256_of_parts(parts, self.dtype, self._images.shape),
            "labels": sha256_of_tensor(self.y),
        }
        return {"n": len(self), "shape": list(self.example_shape), **hashes}

    def extent(self) -> tuple[float, float]:
        least, greatest = inputs(torch.stack(self._images.aminmax())).tolist()
        return least, greatest

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        order = order.to(self.y.device)
        for first in range(start * batch_size, len(order), batch_size):
            index = order[first : first + batch_size]
            x = inputs(self._images[index]).contiguous(memory_format=self.memory_format)
            yield Batch(x, self.y[index], index)


def inputs(images: Tensor) -> Tensor:
    """float32 inputs in [0, 1] of uint8 images; on every device the numbers that NumPy makes of them."""
    # By a number, a GPU would multiply with its reciprocal, which is rounded.
    return images.to(torch.float32) / torch.full((), 255.0, device=images.device)
