"""Handwritten digits from scikit-learn: real images of 8x8 pixels, part of the package, no download.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
With label noise it shows robust overfitting within seconds; without, it is a negative control (Dong et al., "Label
Noise in Adversarial Training: A Novel Perspective to Study Robust Overfitting", NeurIPS 2022, on why).
The task ``rotation``, which needs no labels of digits, is that of Gidaris, Singh, Komodakis, "Unsupervised
Representation Learning by Predicting Image Rotations", arXiv:1803.07728; a model can be pre-trained on it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from sklearn.datasets import load_digits
from torch import Tensor

from buttress import Data, Split
from buttress.data import NO_LABEL, add_label_noise, draw_parts, hold_out
from buttress.settings import Amount, resolve_amount


@dataclass(eq=False, kw_only=True)
class Digits:
    """1,797 digits, ``[1,8,8]`` in [0, 1], 10 classes.

    Args:
        task: class of an example: the ``digit`` (10 classes); or its ``rotation`` (4 classes): every image is there
            four times, turned counterclockwise by 0, 90, 180 and 270 degrees.
        train_per_class: number of training images of each digit.
        validation: images held out for choosing the best epoch, stratified, clean labels: their number, or their share
            (0.2) of the images that are not for training; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        unlabelled_per_class: number of further images of each digit that are set apart without their labels, as extra
            examples for ``data.extra``.
        split_seed: seed of the split and of the label noise; default: the run's seed.
    """

    task: Literal["digit", "rotation"] = "digit"
    train_per_class: Annotated[int, Interval(ge=1, le=170)] = 40
    validation: Amount = 397
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0
    unlabelled_per_class: Annotated[int, Interval(ge=0, le=169)] = 0
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: a class has fewer images than are asked for.
            ValueError: fewer than 10 images would be left for the test.
        """
        digits = load_digits()
        x = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)
        y = torch.from_numpy(digits.target).long()
        rng = np.random.default_rng(seed if self.split_seed is None else self.split_seed)
        counts = {"train_per_class": self.train_per_class, "unlabelled_per_class": self.unlabelled_per_class}
        (train, unlabelled), pool = draw_parts(y, 10, counts, rng)
        held_out = resolve_amount(self.validation, len(pool))
        left = len(pool) - held_out
        if left < 10:
            apart = f", {len(unlabelled)} without labels" if len(unlabelled) else ""
            raise ValueError(
                f"digits has 1797 images: {len(train)} for training{apart} and {held_out} for validation leave {left} "
                "for the test, expected at least 10; lower train_per_class or validation"
            )
        validation, test = pool[:0], pool
        if self.validation:
            held, rest = hold_out(y[pool], self.validation, rng)
            validation, test = pool[held], pool[rest]
        classes = 4 if self.task == "rotation" else 10
        splits = [self._examples(x[images], y[images]) for images in (train, validation, test, unlabelled)]
        train_examples, held_out_examples, test_examples, (x_extra, y_extra) = splits
        data = Data(
            train=Split(*train_examples),
            validation=Split(*held_out_examples) if self.validation else None,
            test=Split(*test_examples),
            num_classes=classes,
            extra=Split(x_extra, torch.full_like(y_extra, NO_LABEL)) if len(unlabelled) else None,
        )
        return add_label_noise(data, self.label_noise, rng)

    def _examples(self, x: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and classes in the task, of images ``[n,1,8,8]`` and their digits ``[n]``."""
        return turned(x) if self.task == "rotation" else (x, digits)


def turned(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every image of ``x [n,C,S,S]`` turned by 0 to 3 quarters ``[4n,C,S,S]``, and the numbers of quarters ``[4n]``."""
    return torch.cat([x.rot90(quarters, (2, 3)) for quarters in range(4)]), torch.arange(4).repeat_interleave(len(x))
