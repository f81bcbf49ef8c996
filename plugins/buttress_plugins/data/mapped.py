"""8-bit images in a file that is mapped into memory, for sets of many millions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from buttress import Data, DataError
from buttress.data import (
    EightBitSplit,
    MappedArray,
    MappedSplit,
    array_names,
    check_mapped,
    expect_pseudo_labels,
    label_command,
    map_array,
    pseudo_label_file,
)
from buttress.settings import File

_IMAGE, _LABEL = "image", "label"


@dataclass(eq=False, kw_only=True)
class Mapped:
    """8-bit images of a file, of which the rows of a batch are read when it is made: extra examples by the million.

    ``data.extra: {file: FILE, share: 7/10}`` is short for ``{name: mapped, file: FILE, share: 7/10}``. The file is an
    ``.npz`` with ``image`` and ``label``, or a ``.npy`` of images. An ``.npz`` of ``np.savez`` is used as it is, one of
    ``np.savez_compressed`` is unpacked once.

    Args:
        file: path of the images, uint8, relative to the config.
        labels: ``given``: those of the file, or of ``label_file``, where -1 stands for none. ``pseudo``: those that
            ``buttress pseudo-label`` wrote, which is checked by its record. ``none``: images without labels.
        label_file: a ``.npy`` of integer labels, or an ``.npz`` with ``label``; default: the ``.npz`` of the images, or
            with ``pseudo`` ``edm.pseudo.npy`` beside ``edm.npz`` if there is one.
        num_classes: number of classes; default: the largest label plus 1.
        layout: order of the axes of images in the file: ``nhwc``, or ``nchw``.
        cache: folder for compressed arrays that are unpacked (default: that of the file).
    """

    file: File
    labels: Literal["given", "pseudo", "none"] = "given"
    label_file: File | None = None
    num_classes: Annotated[int, Ge(2)] | None = None
    layout: Literal["nhwc", "nchw"] = "nhwc"
    cache: Path | None = None

    def load(self, seed: int) -> Data:
        """The images as the training split, with an empty test split.

        Raises:
            DataError: a file is missing or damaged, or an array is of a wrong kind or length; labels are missing, or
                not those of the images.
            StorageError: a compressed array cannot be unpacked.
        """
        file = Path(self.file)
        images = map_array(file, _IMAGE, self.cache)
        if images is None:
            raise DataError(f"{file}: expected an array {_IMAGE!r}, got {_listed(file)}; rename the array of images")
        place = self._place_of_labels(file)
        labels = None if place is None else self._labels(file, place)
        check_mapped(images, labels)
        split = MappedSplit(images, labels, channels_last=self.layout == "nhwc")
        if self.labels == "pseudo" and place is not None:
            expect_pseudo_labels(split, file, place)
        empty = EightBitSplit(torch.empty((0, *split.example_shape), dtype=torch.uint8), torch.empty(0).long())
        return Data(train=split, test=empty, num_classes=self.num_classes or max(2, split.label_range()[1] + 1))

    def _place_of_labels(self, file: Path) -> Path | None:
        """The file of the labels; None for images without."""
        if self.labels == "none":
            if self.label_file is not None:
                raise DataError(f"labels: none, and label_file is {self.label_file}; take one of them out")
            return None
        if self.label_file is not None:
            return Path(self.label_file)
        beside = pseudo_label_file(file)
        return beside if self.labels == "pseudo" and beside.is_file() else file

    def _labels(self, file: Path, place: Path) -> MappedArray:
        images_only = place == file and file.suffix == ".npy"
        labels = None if images_only else map_array(place, _LABEL, self.cache)
        if labels is not None:
            return labels
        cure = f"label the images by a trained run ({label_command(file)}) and set labels: pseudo, or set labels: none"
        if self.labels == "given":
            cure = f"name a .npy of them as label_file, {cure}"
        raise DataError(f"{place}: expected labels, got {'images alone' if images_only else _listed(place)}; {cure}")


def _listed(path: Path) -> str:
    return f"an .npz of {', '.join(sorted(array_names(path))[:20]) or 'nothing'}"
