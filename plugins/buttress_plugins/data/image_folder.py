"""Folders of images, one a class, read while training: for sets that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from buttress import Batch, Data, Split
from buttress.data import check_labels, hold_out
from buttress.errors import DataError
from buttress.threat import ThreatModel


class ImageFolder:
    """``root/train/<class>/*.png`` and ``root/test/<class>/*.png``; RGB images in [0, 1], resized and cropped square.

    Args:
        root: folder with the splits, relative to where buttress is run; ``root/val`` is used where it is.
        size: side of the images in pixels: the shorter side is resized to it and the centre cut out.
        validation: training images held out for choosing the best epoch, stratified, where there is no ``root/val``;
            0 for none.
        workers: processes that read images; 0 reads in the training process.
        split_seed: fixes which images are held out; default: the run's seed.
    """

    def __init__(
        self,
        *,
        root: str,
        size: Annotated[int, Ge(1)] = 224,
        validation: Annotated[int, Ge(0)] = 0,
        workers: Annotated[int, Ge(0)] = 2,
        split_seed: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        self.root, self.size, self.validation, self.workers = root, size, validation, workers
        self.split_seed = split_seed

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, for when ``split_seed`` is not set.

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
            found = datasets.ImageFolder(str(folder))
        except (FileNotFoundError, OSError) as problem:
            raise DataError(
                f"image_folder: {folder}: {problem}; expected one folder of images for each class"
            ) from None
        if classes is not None and found.classes != classes:
            raise DataError(f"image_folder: {folder} has classes {found.classes}, and root/train has {classes}")
        paths, labels = zip(*found.samples, strict=True)
        return FolderSplit(paths, torch.tensor(labels), self.size, self.workers), found.classes


class FolderSplit(Split):
    """Images read from their files, batch by batch, in the order asked for.

    Args:
        paths: ``[n]`` files.
        y: ``[n]`` int64 labels.
        size: side of the square images in pixels.
        workers: processes that read.
    """

    def __init__(self, paths: Sequence[str], y: Tensor, size: int, workers: int) -> None:
        self._images = _Images(paths, size)
        self._size, self._workers = size, workers
        self._device, self.memory_format = torch.device("cpu"), torch.contiguous_format
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (3, self._size, self._size)

    def subset(self, positions: np.ndarray) -> FolderSplit:
        """The images at ``positions``."""
        paths = [self._images.paths[position] for position in positions]
        return FolderSplit(paths, self.y[positions], self._size, self._workers)

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Labels in range, and the box that of images; pixels are in [0, 1] by construction."""
        check_labels(f"data, split {name}", self.y, num_classes)
        if threat.box is not None and not (threat.box[0] <= 0 and threat.box[1] >= 1):
            raise DataError(f"data, split {name}: images are in [0, 1], outside of threat.box {list(threat.box)}")

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> FolderSplit:
        moved = FolderSplit(self._images.paths, self.y, self._size, self._workers)
        moved._device, moved.memory_format = device, memory_format
        return moved

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Batches of ``order``, from batch number ``start`` on; the next ones are read while one is in use.

        Raises:
            DataError: a file cannot be read; at its batch.
        """
        positions = order.split(batch_size)[start:]
        loader: DataLoader[Any] = DataLoader(
            self._images,
            sampler=[part.tolist() for part in positions],  # type: ignore[arg-type]
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # of its own: the global one is nobody's here
        )
        for part, x in zip(positions, loader, strict=True):
            if isinstance(x, DataError):
                raise x
            x = x.to(self._device, memory_format=self.memory_format, non_blocking=True)
            yield Batch(x, self.y[part].to(self._device), part.to(self._device))


class _Images(Dataset[Tensor | DataError]):
    """Positions ``[b]`` to images ``[b,3,size,size]``, or to what is wrong with one of them.

    An error is an answer here: raised in a worker, it would arrive with the worker's traceback for a message.
    """

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self.paths = list(paths)
        self._transform = v2.Compose(
            [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __getitem__(self, positions: list[int]) -> Tensor | DataError:
        try:
            return torch.stack([self._read(self.paths[position]) for position in positions])
        except DataError as problem:
            return problem

    def _read(self, path: str) -> Tensor:
        try:
            image: Tensor = self._transform(datasets.folder.default_loader(path))
        except (OSError, ValueError, SyntaxError, DecompressionBombError) as problem:  # Pillow's, all four
            raise DataError(f"image_folder: {path} cannot be read: {problem}; repair or remove it") from None
        return image.as_subclass(torch.Tensor)
