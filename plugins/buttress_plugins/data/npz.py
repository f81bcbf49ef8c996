"""Any arrays from an ``.npz`` file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge

from buttress import Data, DataError, Split
from buttress.data import NO_LABEL, ArrayHeader, EightBitSplit, check_labels, count_classes, hold_out, read_arrays
from buttress.settings import Amount, File

_ARRAYS = [f"{kind}_{split}" for split in ("train", "test", "val") for kind in "xy"]
# The arrays of one set of examples, as files of generated images have them; label may be missing.
_IMAGE, _LABEL = "image", "label"
# Names in a message, at most.
_SHOWN = 20


@dataclass(eq=False, kw_only=True)
class Npz:
    """Arrays ``x_train, y_train, x_test, y_test`` and, where present, ``x_val, y_val``.

    Images of uint8 are divided by 255; floating-point inputs are taken as they are. A file of ``image`` and ``label``
    alone holds the examples of ``data.extra``, which stay uint8 in memory until their batch is made; the label -1, or a
    file without labels, stands for no label.
    ``buttress pseudo-label`` writes such files.

    Args:
        path: path of the file, relative to the config.
        num_classes: number of classes; default: that of the training labels, which are then 0, 1, 2 ... without a gap;
            of ``label`` the largest one plus 1.
        validation: examples of the training set held out for choosing the best epoch, stratified by label, where the
            file has no ``x_val``: their number, or their share (0.2); 0 for none.
        layout: order of the axes of images in the file: ``nchw``, or ``nhwc`` (moved to nchw); default: that of
            ``image`` is nhwc, that of all others nchw.
        split_seed: seed of the choice of held-out examples; default: the run's seed.
    """

    path: File
    num_classes: Annotated[int, Ge(2)] | None = None
    validation: Amount = 0
    layout: Literal["nchw", "nhwc"] | None = None
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: the file is missing, damaged or lacks an array; arrays of wrong kinds or lengths.
        """
        arrays = read_arrays(Path(self.path), [*_ARRAYS, _IMAGE, _LABEL], self._expect)
        if "x_train" not in arrays:
            return self._single(arrays)
        train = self._split(arrays, "train")
        labels = f"{self.path}: y_train"
        classes = self.num_classes or count_classes(labels, train.y)
        check_labels(labels, train.y, classes)
        validation = self._split(arrays, "val") if "x_val" in arrays else None
        if validation is None and self.validation:
            rng = np.random.default_rng(seed if self.split_seed is None else self.split_seed)
            try:
                held, kept = hold_out(train.y, self.validation, rng)
            except DataError as problem:
                raise DataError(f"{self.path}: {problem}") from None
            validation, train = (Split(train.x[part], train.y[part]) for part in (held, kept))
        return Data(train=train, validation=validation, test=self._split(arrays, "test"), num_classes=classes)

    def _single(self, arrays: Mapping[str, np.ndarray]) -> Data:
        """The examples of ``image`` as the training split, with an empty test split."""
        image, layout = arrays[_IMAGE], self.layout or "nhwc"
        y = torch.from_numpy(arrays.get(_LABEL, np.full(len(image), NO_LABEL)).astype(np.int64))
        if image.dtype == np.uint8:
            train: Split = EightBitSplit(torch.from_numpy(np.ascontiguousarray(channels_first(image, layout))), y)
        else:
            train = Split(self._inputs(image, layout), y)
        classes = self.num_classes or max(2, int(y.max()) + 1)
        return Data(train=train, test=Split(self._inputs(image[:0], layout), y[:0]), num_classes=classes)

    def _expect(self, headers: Mapping[str, ArrayHeader], names: list[str]) -> None:
        """Expect both arrays of training and test, both or none of validation, plain kinds, one label an example."""
        if _IMAGE in headers and "x_train" not in headers:
            self._expect_pair(_IMAGE, headers[_IMAGE], _LABEL, headers.get(_LABEL))
            return
        for split in ("train", "test", "val") if "x_val" in headers else ("train", "test"):
            for name in (f"x_{split}", f"y_{split}"):
                if name not in headers:
                    raise DataError(f"{self.path}: array {name!r} is missing; found: {_listed(names)}")
            self._expect_pair(f"x_{split}", headers[f"x_{split}"], f"y_{split}", headers[f"y_{split}"])

    def _expect_pair(self, inputs: str, x: ArrayHeader, labels: str, y: ArrayHeader | None) -> None:
        plain = x.dtype.kind == "f" or x.dtype == np.uint8
        if len(x.shape) < 2 or x.shape[0] == 0 or not plain:
            raise DataError(f"{self.path}: {inputs}: expected uint8 or float [n,*], got {x.dtype} {x.shape}")
        if y is not None and (y.shape != x.shape[:1] or y.dtype.kind not in "iu"):
            raise DataError(f"{self.path}: {labels}: expected {x.shape[0]} integer labels, got {y.dtype} {y.shape}")

    def _split(self, arrays: Mapping[str, np.ndarray], name: str) -> Split:
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
        return Split(self._inputs(x, self.layout or "nchw"), torch.from_numpy(y.astype(np.int64)))

    @staticmethod
    def _inputs(x: np.ndarray, layout: str) -> torch.Tensor:
        """``[n,*]`` inputs in float32, images as ``[n,C,H,W]``."""
        x = channels_first(x, layout)
        scaled = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled))


def channels_first(images: np.ndarray, layout: str) -> np.ndarray:
    """Images ``[n,C,H,W]``, a view of those in ``layout``."""
    return np.moveaxis(images, -1, 1) if layout == "nhwc" else images


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(sorted(names)[:_SHOWN])}{more}"
