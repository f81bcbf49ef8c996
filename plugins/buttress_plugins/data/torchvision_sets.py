"""CIFAR-10, CIFAR-100 and SVHN through torchvision, in memory, in [0, 1].

Sources: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; Netzer et al., "Reading Digits in
Natural Images with Unsupervised Feature Learning", 2011. torchvision checks the files' md5 before it reads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Data, DataError, Split
from buttress.data import flip_labels, hold_out
from buttress.settings import Amount


@dataclass(eq=False, kw_only=True)
class _InMemory(ABC):
    """The common part of the three sets: place of the files, held-out examples, injected label noise."""

    num_classes = 10
    files: ClassVar[str]

    root: Path = Path("data")
    download: bool = False
    validation: Amount = 1000
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0
    split_seed: Annotated[int, Ge(0)] | None = None
    train_per_class: Annotated[int, Ge(1)] | None = None
    test_per_class: Annotated[int, Ge(1)] | None = None

    @abstractmethod
    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """uint8 images ``[n,3,32,32]`` and labels ``[n]``."""

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: the files are missing or damaged; too few examples to hold out, or of a class.
        """
        seed = seed if self.split_seed is None else self.split_seed
        rng = np.random.default_rng(seed)
        x, y = _tensors(*self.arrays(train=True))
        validation = None
        if self.validation:
            held, kept = hold_out(y, self.validation, rng)
            validation, x, y = Split(x[held], y[held]), x[kept], y[kept]
        if self.train_per_class is not None:
            part = self._per_class("train_per_class", y, self.train_per_class, rng)
            x, y = x[part], y[part]
        x_test, y_test = _tensors(*self.arrays(train=False))
        if self.test_per_class is not None:  # a stream of its own: no setting of training changes the test
            rng_test = np.random.default_rng([seed, 1])
            part = self._per_class("test_per_class", y_test, self.test_per_class, rng_test)
            x_test, y_test = x_test[part], y_test[part]
        noisy, flipped = flip_labels(y, self.label_noise, self.num_classes, rng)
        return Data(
            train=Split(x, noisy),
            validation=validation,
            test=Split(x_test, y_test),
            num_classes=self.num_classes,
            notes={"flipped_labels": int(flipped.sum())},
            true_labels=y if self.label_noise else None,
        )

    def _per_class(self, setting: str, y: Tensor, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of ``count`` examples of each class, drawn, in order; ``y [n]``."""
        classes = [np.flatnonzero(y.numpy() == k) for k in range(self.num_classes)]
        fewest = min(len(positions) for positions in classes)
        if count > fewest:
            raise DataError(f"{type(self).__name__}: {setting}: expected at most {fewest}, got {count}")
        return np.sort(np.concatenate([rng.permutation(positions)[:count] for positions in classes]))

    def _read(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (RuntimeError, OSError, ValueError, KeyError, HTTPException) as problem:
            name, folder = type(self).__name__, str(Path(self.root).absolute())
            cure = "repair the connection, or set" if self.download else "set data.download: true, or"
            raise DataError(
                f"{name}: cannot be read from {folder!r}: {problem}; {cure} data.root to the folder that holds "
                f"{self.files}"
            ) from None


class CIFAR10(_InMemory):
    """CIFAR-10: 50,000 and 10,000 images ``[3,32,32]`` in [0, 1], 10 classes.

    Args:
        root: folder with the files, relative to the config; default: ``data`` in the working folder.
        download: whether to fetch missing files.
        validation: training images held out for choosing the best epoch, stratified: their number, or their share
            (0.02); 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: seed of the split, the subsets and the label noise; default: the run's seed.
        train_per_class: number of training images of each class, drawn from those that are not held out; default: all.
        test_per_class: number of test images of each class, drawn; default: all, as in published numbers.
    """

    files = "cifar-10-batches-py"

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        files = self._read(lambda: datasets.CIFAR10(self.root, train=train, download=self.download))
        return files.data.transpose(0, 3, 1, 2), np.asarray(files.targets)


class CIFAR100(_InMemory):
    """CIFAR-100: 50,000 and 10,000 images ``[3,32,32]`` in [0, 1], 100 classes.

    Args:
        root: folder with the files, relative to the config; default: ``data`` in the working folder.
        download: whether to fetch missing files.
        validation: training images held out for choosing the best epoch, stratified: their number, or their share
            (0.02); 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: seed of the split, the subsets and the label noise; default: the run's seed.
        train_per_class: number of training images of each class, drawn from those that are not held out; default: all.
        test_per_class: number of test images of each class, drawn; default: all, as in published numbers.
    """

    num_classes, files = 100, "cifar-100-python"

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        files = self._read(lambda: datasets.CIFAR100(self.root, train=train, download=self.download))
        return files.data.transpose(0, 3, 1, 2), np.asarray(files.targets)


class SVHN(_InMemory):
    """SVHN, cropped digits: 73,257 and 26,032 images ``[3,32,32]`` in [0, 1], 10 classes; the extra set is not used.

    Args:
        root: folder with the files, relative to the config; default: ``data`` in the working folder.
        download: whether to fetch missing files.
        validation: training images held out for choosing the best epoch, stratified: their number, or their share
            (0.02); 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: seed of the split, the subsets and the label noise; default: the run's seed.
        train_per_class: number of training images of each class, drawn from those that are not held out; default: all.
        test_per_class: number of test images of each class, drawn; default: all, as in published numbers.
    """

    files = "train_32x32.mat and test_32x32.mat"

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        name = "train" if train else "test"
        files = self._read(lambda: datasets.SVHN(self.root, split=name, download=self.download))
        return files.data, files.labels


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32).div_(255)
    return x, torch.from_numpy(np.asarray(labels, dtype=np.int64))
