"""Any arrays from an ``.npz`` file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge

from buttress import Data, DataError, Split
from buttress.data import ArrayHeader, check_labels, count_classes, hold_out, read_arrays
from buttress.settings import Amount, File

_ARRAYS = [f"{kind}_{split}" for split in ("train", "test", "val") for kind in "xy"]
# Names in a message, at most.
_SHOWN = 20


@dataclass(eq=False, kw_only=True)
class Npz:
    """Arrays ``x_train, y_train, x_test, y_test`` and, where present, ``x_val, y_val``.

    Images of uint8 are divided by 255; floating-point inputs are taken as they are.

    Args:
        path: path of the file, relative to the config.
        num_classes: number of classes; default: that of the training labels, which are then 0, 1, 2 ... without a gap.
        validation: examples of the training set held out for choosing the best epoch, stratified by label, where the
            file has no ``x_val``: their number, or their share (0.2); 0 for none.
        layout: order of the axes of images in the file: ``nchw``, or ``nhwc`` (moved to nchw).
        split_seed: seed of the choice of held-out examples; default: the run's seed.
    """

    path: File
    num_classes: Annotated[int, Ge(2)] | None = None
    validation: Amount = 0
    layout: Literal["nchw", "nhwc"] = "nchw"
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: the file is missing, damaged or lacks an array; arrays of wrong kinds or lengths.
        """
        arrays = read_arrays(Path(self.path), _ARRAYS, self._expect)
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

    def _expect(self, headers: Mapping[str, ArrayHeader], names: list[str]) -> None:
        """Expect both arrays of training and test, both or none of validation, plain kinds, one label an example."""
        for split in ("train", "test", "val") if "x_val" in headers else ("train", "test"):
            for name in (f"x_{split}", f"y_{split}"):
                if name not in headers:
                    raise DataError(f"{self.path}: array {name!r} is missing; found: {_listed(names)}")
            x, y = headers[f"x_{split}"], headers[f"y_{split}"]
            plain = x.dtype.kind == "f" or x.dtype == np.uint8
            if len(x.shape) < 2 or x.shape[0] == 0 or not plain:
                raise DataError(f"{self.path}: x_{split}: expected uint8 or float [n,*], got {x.dtype} {x.shape}")
            if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
                raise DataError(
                    f"{self.path}: y_{split}: expected {x.shape[0]} integer labels, got {y.dtype} {y.shape}"
                )

    def _split(self, arrays: Mapping[str, np.ndarray], name: str) -> Split:
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
        if self.layout == "nhwc":
            x = np.moveaxis(x, -1, 1)
        scaled = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
        return Split(torch.from_numpy(np.ascontiguousarray(scaled)), torch.from_numpy(y.astype(np.int64)))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(sorted(names)[:_SHOWN])}{more}"
