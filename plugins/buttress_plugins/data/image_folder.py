"""Folders of images, one a class, read while training: for sets that do not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_dtype

from buttress import Batch, Data, DataError, Split, ThreatModel
from buttress.data import (
    Background,
    check_labels,
    crop_strip,
    hold_out,
    image_errors,
    open_image,
    read_ahead,
    sha256_of_image,
    sha256_of_tensor,
    sha256_of_values,
    visible_image,
)
from buttress.settings import Amount

READ_BEFORE = 2**30
"""Bytes of files, in one split, that are read before the first step: headers checked, contents hashed. Of a larger
split the names and sizes of the files are known, and an image that cannot be used is found at its batch."""

_CPU = torch.device("cpu")


@dataclass(eq=False, kw_only=True)
class ImageFolder:
    """``root/train/<class>/*.png`` and ``root/test/<class>/*.png``; RGB images in [0, 1], resized and cropped square.

    Grey images get three equal channels, 16-bit ones are divided by 65535, floating-point ones are taken as they are.
    Images of 8 bits go to the device as such. On several processes each reads the files of its own rows of a batch.

    Args:
        root: folder with the splits, relative to the config; ``root/val`` is used where it is.
        size: side of the images in pixels: the shorter side is resized to it and the centre cut out.
        validation: training images held out for choosing the best epoch, stratified, where there is no ``root/val``:
            their number, or their share (0.2); 0 for none.
        workers: number of processes that read images, beside each process that trains; 0 reads in the latter.
        background: colour behind transparent pixels: ``white`` or ``black``.
        split_seed: seed of the choice of held-out images; default: the run's seed.
    """

    root: Path
    size: Annotated[int, Interval(ge=1, le=10_000)] = 224
    validation: Amount = 0
    workers: Annotated[int, Interval(ge=0, le=1024)] = 2
    background: Background = "white"
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: a folder is missing, has no images, or its classes are not those of ``root/train``.
        """
        train, classes = self._split("train")
        test, _ = self._split("test", classes)
        validation = None
        if (Path(self.root) / "val").is_dir():
            validation, _ = self._split("val", classes)
        elif self.validation:
            rng = np.random.default_rng(seed if self.split_seed is None else self.split_seed)
            held, kept = hold_out(train.y, self.validation, rng)
            validation, train = train.subset(held), train.subset(kept)
        return Data(train=train, validation=validation, test=test, num_classes=len(classes), notes={"classes": classes})

    def _split(self, name: str, classes: list[str] | None = None) -> tuple[FolderSplit, list[str]]:
        folder = Path(self.root) / name
        try:
            _expect_no_loop(folder)
            tree = datasets.ImageFolder(str(folder))
        except (FileNotFoundError, OSError) as problem:
            raise DataError(
                f"image_folder: {folder}: {problem}; expected one folder of images for each class"
            ) from None
        if classes is not None and tree.classes != classes:
            raise DataError(f"image_folder: {folder} has classes {tree.classes}, and root/train has {classes}")
        paths, labels = zip(*tree.samples, strict=True)
        images = _Images(paths, self.size, Path(self.root), self.background)
        return FolderSplit(images, torch.tensor(labels), self.workers), tree.classes


class FolderSplit(Split):
    """A split whose images are read from their files batch by batch, in the requested order.

    8-bit images become float32 on the device.

    Args:
        images: the ``n`` images.
        y: ``[n]`` int64 labels.
        workers: number of processes that read.
        device: device of the batches.
        memory_format: memory format of the batches' inputs.
    """

    reads_rows = True

    def __init__(
        self,
        images: _Images,
        y: Tensor,
        workers: int,
        device: torch.device = _CPU,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._images, self.y, self._workers = images, y, workers
        self._device, self.memory_format = device, memory_format

    def __len__(self) -> int:
        return len(self.y)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (3, self._images.size, self._images.size)

    def subset(self, positions: np.ndarray) -> FolderSplit:
        """The images at ``positions``."""
        return FolderSplit(self._images.subset(positions), self.y[positions], self._workers)

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Check that labels are in range, that the box holds images, and that every header is that of a usable image.

        Pixels are in [0, 1] by construction.

        Raises:
            DataError: names the fault and the file.
        """
        check_labels(f"data, split {name}", self.y, num_classes)
        if threat.box is not None and not (threat.box[0] <= 0 and threat.box[1] >= 1):
            raise DataError(f"data, split {name}: images are in [0, 1], outside of threat.box {list(threat.box)}")
        self._images.check_headers()

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> FolderSplit:
        return FolderSplit(self._images, self.y, self._workers, device, memory_format)

    def fingerprint(self) -> dict[str, Any]:
        """Names, sizes and, where they are read before the first step, contents of the files, in their order.

        Raises:
            DataError: a file cannot be read.
        """
        known = {"n": len(self), "shape": list(self.example_shape), "labels": sha256_of_tensor(self.y)}
        return {**known, **self._images.fingerprint()}

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Batches of ``order``, from batch number ``start`` on; the next ones are read while one is in use.

        Raises:
            DataError: a file cannot be read; at its batch.
            WorkError: a worker has ended by itself.
        """
        return self.batches_at(torch.split(order, batch_size)[start:])

    def batches_at(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        pinned = self._device.type == "cuda"
        read = read_ahead(self._images.read, parts, self._workers, pinned=pinned, who="image_folder")
        for part, images in zip(parts, read, strict=True):
            x = inputs(images.to(self._device, non_blocking=True)).contiguous(memory_format=self.memory_format)
            yield Batch(x, self.y[part].to(self._device), part.to(self._device))


def inputs(images: Tensor) -> Tensor:
    """float32 inputs in [0, 1] of images ``[b,3,size,size]``, uint8 or float32: on any device torchvision's numbers."""
    # One product by the rounded 1 / 255, and no division: torchvision does so, and all devices round it alike.
    scaled: Tensor = to_dtype(images, torch.float32, scale=True)
    return scaled


class _Images:
    """Images in files, resized and cropped when they are read."""

    def __init__(self, paths: Sequence[str], size: int, root: Path, background: Background) -> None:
        self.paths, self.size = list(paths), size
        self._root, self._background = root, background
        self._square = v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.ToImage()])

    def subset(self, positions: np.ndarray) -> _Images:
        """The images at ``positions``."""
        return _Images([self.paths[position] for position in positions], self.size, self._root, self._background)

    def read(self, positions: list[int]) -> Tensor:
        """Images ``[b,3,size,size]`` at ``positions``: uint8, or float32 where one of them has more bits a channel.

        Raises:
            DataError: one of them cannot be read; names the file.
        """
        images = [self._read(self.paths[position]) for position in positions]
        wide = any(image.dtype != torch.uint8 for image in images)
        return torch.stack([inputs(image) for image in images] if wide else images)

    def check_headers(self) -> None:
        """Open every file, if the files are read before the first step."""
        for path in self.paths if self._are_read_before else ():
            with open_image(path):
                pass

    def fingerprint(self) -> dict[str, str]:
        """sha256 of names, sizes and contents."""
        names = [Path(path).relative_to(self._root).as_posix() for path in self.paths]
        hashes = {"names of files": sha256_of_values(names), "sizes of files": sha256_of_values(self._bytes)}
        if self._are_read_before:
            hashes["contents of files"] = sha256_of_values(map(sha256_of_image, self.paths))
        return hashes

    @property
    def _are_read_before(self) -> bool:
        return sum(self._bytes) <= READ_BEFORE

    @cached_property
    def _bytes(self) -> list[int]:
        sizes = []
        for path in self.paths:
            with image_errors(path):
                sizes.append(Path(path).stat().st_size)
        return sizes

    def _read(self, path: str) -> Tensor:
        with open_image(path) as image:
            square: Tensor = self._square(crop_strip(visible_image(image, self._background)))
        pixels = square.as_subclass(torch.Tensor)
        return pixels if pixels.dtype == torch.uint8 else pixels.clamp(0, 1).expand(3, -1, -1)  # resizing rounds


def _expect_no_loop(folder: Path) -> None:
    """Refuse a link to a folder above it: the search for images would never end.

    Raises:
        OSError: names the link.
    """
    for root, names, _ in os.walk(folder, followlinks=True):
        for link in (Path(root, name) for name in names if os.path.islink(os.path.join(root, name))):  # noqa: PTH114, PTH118
            above = [each for each in link.parents if each == folder or each.is_relative_to(folder)]
            if link.resolve() in {each.resolve() for each in above}:
                raise OSError(f"{link} is a link to a folder that it is in; remove it")
