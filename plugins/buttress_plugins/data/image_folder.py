"""Folders of images, one a class, read while training: for sets that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from buttress import Batch, Data, Split
from buttress.data import check_labels, hold_out
from buttress.errors import DataError
from buttress.settings import Amount
from buttress.storage.fingerprints import sha256_of_tensor, sha256_of_values
from buttress.threat import ThreatModel

READ_BEFORE = 2**30
"""Bytes of files, in one split, that are read before the first step: headers checked, contents hashed. Of a larger
split the names and sizes of the files are known, and an image that cannot be used is found at its batch."""

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes of one channel with more than 8 bits, which Pillow's own conversion to RGB would cut off at 255."""

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "PPM", "TIFF", "WEBP", "GIF")
"""What Pillow may take a file for, whatever its name: those of torchvision's suffixes, which Pillow decodes itself. Of
PostScript it would start the program ``gs``."""

_CPU = torch.device("cpu")

Background = Literal["white", "black"]


class ImageFolder:
    """``root/train/<class>/*.png`` and ``root/test/<class>/*.png``; RGB images in [0, 1], resized and cropped square.

    Grey images get three equal channels, 16-bit ones are divided by 65535, floating-point ones are taken as they are.

    Args:
        root: folder with the splits, relative to the config; ``root/val`` is used where it is.
        size: side of the images in pixels: the shorter side is resized to it and the centre cut out.
        validation: training images held out for choosing the best epoch, stratified, where there is no ``root/val``:
            their number, or their share (0.2); 0 for none.
        workers: processes that read images; 0 reads in the training process.
        background: what stands behind transparent pixels: ``white`` or ``black``.
        split_seed: fixes which images are held out; default: the run's seed.
    """

    def __init__(
        self,
        *,
        root: Path,
        size: Annotated[int, Ge(1)] = 224,
        validation: Amount = 0,
        workers: Annotated[int, Ge(0)] = 2,
        background: Background = "white",
        split_seed: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        self.root, self.size, self.validation, self.workers = root, size, validation, workers
        self.background, self.split_seed = background, split_seed

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
        images = _Images(paths, self.size, Path(self.root), self.background)
        return FolderSplit(images, torch.tensor(labels), self.workers), found.classes


class FolderSplit(Split):
    """Images read from their files, batch by batch, in the order asked for.

    Args:
        images: ``n`` of them.
        y: ``[n]`` int64 labels.
        workers: processes that read.
        device: of the batches.
        memory_format: of the batches' inputs.
    """

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
        """Labels in range, the box that of images, every header that of a usable image; pixels are in [0, 1] by
        construction.

        Raises:
            DataError: names what is wrong, and the file.
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

    def __init__(self, paths: Sequence[str], size: int, root: Path, background: Background) -> None:
        self.paths, self.size = list(paths), size
        self._root, self._background = root, background
        self._square = v2.Compose(
            [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def subset(self, positions: np.ndarray) -> _Images:
        """The images at ``positions``."""
        return _Images([self.paths[position] for position in positions], self.size, self._root, self._background)

    def __getitem__(self, positions: list[int]) -> Tensor | DataError:
        try:
            return torch.stack([self._read(self.paths[position]) for position in positions])
        except DataError as problem:
            return problem

    def check_headers(self) -> None:
        """Open every file, where they are read before the first step."""
        for path in self.paths if self._are_read_before else ():
            with _read_errors(path), Image.open(path, formats=FORMATS) as image:
                _expect_usable(image)

    def fingerprint(self) -> dict[str, str]:
        """sha256 of names, sizes and contents."""
        names = [Path(path).relative_to(self._root).as_posix() for path in self.paths]
        found = {"names of files": sha256_of_values(names), "sizes of files": sha256_of_values(self._bytes)}
        if self._are_read_before:
            found["contents of files"] = sha256_of_values(map(_sha256, self.paths))
        return found

    @property
    def _are_read_before(self) -> bool:
        return sum(self._bytes) <= READ_BEFORE

    @cached_property
    def _bytes(self) -> list[int]:
        sizes = []
        for path in self.paths:
            with _read_errors(path):
                sizes.append(Path(path).stat().st_size)
        return sizes

    def _read(self, path: str) -> Tensor:
        with _read_errors(path), Image.open(path, formats=FORMATS) as image:
            _expect_usable(image)
            square: Tensor = self._square(visible(image, self._background))
        return square.as_subclass(torch.Tensor).clamp(0, 1).expand(3, -1, -1)  # resizing rounds a little beyond 1


def visible(image: Image.Image, background: Background) -> Image.Image:
    """What a viewer shows of ``image``, which is turned as its EXIF tag says; a background behind transparent pixels.

    Returns:
        An image of mode ``RGB``, or of mode ``F`` with values in [0, 1] where the image has one deep channel.

    Raises:
        ValueError: nothing of it is visible, or its values have no agreed white.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in DEEP:
        return _grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema()[1] == 0:
        raise ValueError("all of its pixels are transparent")
    behind = Image.new("RGBA", layers.size, background)
    return Image.alpha_composite(behind, layers).convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """An image of one deep channel, with values in [0, 1]."""
    values = np.asarray(image, dtype=np.float64) / _white(image)
    if _tiff_tag(image, "PhotometricInterpretation", 1) == 0 and image.mode != "F":  # 0 is white; Pillow leaves it so
        values = 1 - values
    if not (values.min() >= 0 and values.max() <= 1):  # NaN neither
        raise ValueError(f"expected floating-point pixels in [0, 1], got [{values.min():g}, {values.max():g}]")
    return Image.fromarray(values.astype(np.float32))


def _white(image: Image.Image) -> int:
    """The value that stands for white: 1 of floats, 65535 of 16 bits, 4095 of a TIFF file's 12 bits."""
    if image.mode == "F":
        return 1
    return int(2 ** _tiff_tag(image, "BitsPerSample", 16) - 1)


def _expect_usable(image: Image.Image) -> None:
    """Refuse, by its header, an image of which the conversion would lose the content.

    Raises:
        ValueError: several frames, 32-bit integers, or transparency of a 16-bit image.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's MPO: the image, and previews of it
        raise ValueError(f"it has {frames} frames, expected one")
    if image.mode == "I" and image.format != "PPM":  # Pillow scales the integers of PPM to 16 bits
        raise ValueError("its pixels are 32-bit or signed integers, for which no value is white; expected 8 or 16 bits")
    if image.mode in DEEP and "transparency" in image.info:
        raise ValueError("it has 16 bits and a transparent colour, which are not taken together")


def _tiff_tag(image: Image.Image, name: str, default: int) -> int:
    """The first value of a tag of a TIFF file; the default for other files."""
    tags = getattr(image, "tag_v2", {})
    found = tags.get(_TIFF_TAGS[name], default)
    return int(found[0] if isinstance(found, tuple) else found)


_TIFF_TAGS = {"BitsPerSample": 258, "PhotometricInterpretation": 262}


def _sha256(path: str) -> str:
    with _read_errors(path), open(path, "rb") as stream:  # noqa: PTH123  (a Path for each costs more than the hash)
        return file_digest(stream, "sha256").hexdigest()


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    """Name the file of whatever Pillow or the system say about it."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:  # Pillow's, all four
        raise DataError(f"image_folder: {path} cannot be read: {problem}; repair or remove it") from None
