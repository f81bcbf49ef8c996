"""CIFAR-10, CIFAR-100 and SVHN through torchvision, in memory, in [0, 1].

Sources: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; Netzer et al., "Reading Digits in
Natural Images with Unsupervised Feature Learning", 2011. torchvision checks the files' md5 before it reads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Data, Split
from buttress.data import flip_labels, hold_out
from buttress.errors import DataError


class _InMemory(ABC):
    """What the three sets share: where the files are, what is held out, injected label noise."""

    num_classes = 10

    def __init__(
        self,
        *,
        root: str = "data",
        download: bool = False,
        validation: Annotated[int, Ge(0)] = 1000,
        label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0,
        split_seed: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        self.root, self.download, self.validation = root, download, validation
        self.label_noise, self.split_seed = label_noise, split_seed

    @abstractmethod
    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """uint8 images ``[n,3,32,32]`` and labels ``[n]``."""

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, for when ``split_seed`` is not set.

        Raises:
            DataError: the files are missing or damaged; too few examples to hold out.
        """
        rng = np.random.default_rng(seed if self.split_seed is None else self.split_seed)
        x, y = _tensors(*self.arrays(train=True))
        validation = None
        if self.validation:
            held, kept = hold_out(y, self.validation, rng)
            validation, x, y = Split(x[held], y[held]), x[kept], y[kept]
        noisy, flipped = flip_labels(y, self.label_noise, self.num_classes, rng)
        return Data(
            train=Split(x, noisy),
            validation=validation,
            test=Split(*_tensors(*self.arrays(train=False))),
            num_classes=self.num_classes,
            notes={"flipped_labels": int(flipped.sum())},
        )

    def _read(self, make: Callable[[], Any]) -> Any:
        name = type(self).__name__
        try:
            return make()
        except (RuntimeError, OSError, ValueError, KeyError) as problem:
            raise DataError(
                f"{name}: cannot be read from {self.root!r}: {problem}; set data.download: true, or data.root to the "
                "folder that holds its files"
            ) from None


class CIFAR10(_InMemory):
    """CIFAR-10: 50,000 and 10,000 images ``[3,32,32]`` in [0, 1], 10 classes.

    Args:
        root: folder with the files, relative to where buttress is run.
        download: fetch the files where they are missing.
        validation: training images held out for choosing the best epoch, stratified; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: fixes the split and the label noise; default: the run's seed.
    """

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        found = self._read(lambda: datasets.CIFAR10(self.root, train=train, download=self.download))
        return found.data.transpose(0, 3, 1, 2), np.asarray(found.targets)


class CIFAR100(_InMemory):
    """CIFAR-100: 50,000 and 10,000 images ``[3,32,32]`` in [0, 1], 100 classes.

    Args:
        root: folder with the files, relative to where buttress is run.
        download: fetch the files where they are missing.
        validation: training images held out for choosing the best epoch, stratified; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: fixes the split and the label noise; default: the run's seed.
    """

    num_classes = 100

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        found = self._read(lambda: datasets.CIFAR100(self.root, train=train, download=self.download))
        return found.data.transpose(0, 3, 1, 2), np.asarray(found.targets)


class SVHN(_InMemory):
    """SVHN, cropped digits: 73,257 and 26,032 images ``[3,32,32]`` in [0, 1], 10 classes; the extra set is not used.

    Args:
        root: folder with the files, relative to where buttress is run.
        download: fetch the files where they are missing.
        validation: training images held out for choosing the best epoch, stratified; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: fixes the split and the label noise; default: the run's seed.
    """

    def arrays(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        name = "train" if train else "test"
        found = self._read(lambda: datasets.SVHN(self.root, split=name, download=self.download))
        return found.data, found.labels


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32).div_(255)
    return x, torch.from_numpy(np.asarray(labels, dtype=np.int64))
