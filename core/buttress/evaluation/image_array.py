"""Images as the data set ``npz`` reads them back, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageArray:
    """Images in the layout of the array ``image``: uint8 if every one of them is k/255 exactly, else float32.

    Args:
        most: largest number of images.
        shape: shape of one image, ``[C,H,W]``, or of one input of another kind.
    """

    def __init__(self, most: int, shape: tuple[int, ...]) -> None:
        self._array: NDArray[Any] = np.empty((most, *shape[1:], shape[0]), np.uint8)
        self._n = 0

    @property
    def array(self) -> NDArray[Any]:
        """``[n,H,W,C]``."""
        return self._array[: self._n]

    def append(self, x: Tensor) -> None:
        """Append images ``x [B,C,H,W]``."""
        x = x.cpu().movedim(1, -1)
        x = x.float() if x.dtype == torch.float64 else x
        if self._array.dtype == np.uint8:
            eight_bits = (x * 255).round().clamp(0, 255).to(torch.uint8)
            if torch.equal(eight_bits.to(x.dtype) / 255, x):
                self._put(eight_bits)
                return
            self._array = self._array.astype(np.float32) / 255
        self._put(x.float())

    def _put(self, x: Tensor) -> None:
        self._array[self._n : self._n + len(x)] = x.numpy()
        self._n += len(x)
