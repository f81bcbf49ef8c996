"""Crops of six photographs that come with scikit-image: real images in colour, no download.

Source: the folder ``skimage/data`` of the package (van der Walt et al., "scikit-image: image processing in Python",
PeerJ, 2014). By the notes in its module ``skimage.data``, all six are free for any use. In the public domain: the
astronaut Eileen Collins and the Hubble eXtreme Deep Field (NASA), the launch of a rocket (SpaceX). CC0: the cat Chelsea
(Stefan van der Walt), the cup of coffee (Rachel Michetti), the retina (Mikael Häggström). Left out are the colour
pictures without such a note: the motorcycle and the stained tissue.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from PIL import Image
from torch import Tensor

from buttress import Data
from buttress.data import EightBitSplit, add_label_noise, draw_parts, hold_out, open_packaged_file
from buttress.settings import Amount

FILES = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
"""Files of the photographs by the names of their classes."""

SQUARE = 64
"""Side of the squares in pixels."""
ROWS, COLUMNS = 4, 7
"""Squares of a photograph: as many as the smallest one, of 300 x 451 pixels, has."""
TRAIN, VALIDATION, TEST = (0, 2), (1,), (3,)
"""The squares of each split: those of which row plus column, modulo 4, is one of these numbers."""


@dataclass(eq=False, kw_only=True)
class Photos:
    """Crops ``[3,size,size]`` of six photographs, in [0, 1]; the class is the photograph.

    The middle of each photograph, 256 x 448 pixels, is divided into 28 squares of 64 pixels: 14 for training, 7 for
    validation, 7 for the test. A crop lies in one square, so that no pixel is in two splits. Crops of one square
    overlap where ``stride`` is below ``size``.

    Needs the package scikit-image: ``pip install 'buttress[demo]'``.

    Args:
        size: side of the crops in pixels.
        stride: pixels from one crop of a square to the next, across and down.
        train_per_class: number of training crops of each photograph.
        test_per_class: number of test crops of each photograph.
        validation: crops for choosing the best epoch, stratified, clean labels: their number, or their share (0.2) of
            all crops of the squares for validation; 0 for none.
        label_noise: share of the training labels that is moved to another class, drawn uniformly.
        split_seed: seed of the choice of crops and of the label noise; default: the run's seed.
    """

    size: Annotated[int, Interval(ge=1, le=SQUARE)] = 32
    stride: Annotated[int, Interval(ge=1, le=SQUARE)] = 8
    train_per_class: Annotated[int, Ge(1)] = 100
    test_per_class: Annotated[int, Ge(1)] = 100
    validation: Amount = 300
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is the run's, and holds where ``split_seed`` is not set.

        Raises:
            DataError: the package is missing, or its squares have fewer crops than are asked for.
        """
        seed = seed if self.split_seed is None else self.split_seed
        rng, test_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])  # no other setting moves the test
        data = Data(
            train=self._drawn(TRAIN, "train_per_class", self.train_per_class, rng),
            validation=self._held_out(rng) if self.validation else None,
            test=self._drawn(TEST, "test_per_class", self.test_per_class, test_rng),
            num_classes=len(FILES),
            notes={"classes": list(FILES)},
        )
        return add_label_noise(data, self.label_noise, rng)

    def _drawn(self, squares: tuple[int, ...], setting: str, count: int, rng: np.random.Generator) -> EightBitSplit:
        """``count`` crops of each photograph in its ``squares``."""
        crops, y = self._crops(squares)
        (drawn,), _ = draw_parts(y, len(FILES), {setting: count}, rng)
        return EightBitSplit(crops[drawn], y[drawn])

    def _held_out(self, rng: np.random.Generator) -> EightBitSplit:
        crops, y = self._crops(VALIDATION)
        held, _ = hold_out(y, self.validation, rng)
        return EightBitSplit(crops[held], y[held])

    def _crops(self, squares: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """All crops ``[n,3,size,size]`` of the photographs in their ``squares``, and their classes ``[n]``."""
        crops = [crops_of(photograph, squares, self.size, self.stride) for photograph in _photographs()]
        return torch.cat(crops), torch.arange(len(crops)).repeat_interleave(len(crops[0]))


def crops_of(photograph: Tensor, squares: tuple[int, ...], size: int, stride: int) -> Tensor:
    """All crops ``[n,3,size,size]`` of a photograph ``[3,256,448]`` that lie in one of its ``squares``."""
    places = [(i, j) for i in range(ROWS) for j in range(COLUMNS) if (i + j) % 4 in squares]
    tiles = photograph.unfold(1, SQUARE, SQUARE).unfold(2, SQUARE, SQUARE)  # [3,4,7,64,64]
    chosen = torch.stack([tiles[:, i, j] for i, j in places])
    crops = chosen.unfold(2, size, stride).unfold(3, size, stride)  # [squares,3,down,across,size,size]
    return crops.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


@cache
def _photographs() -> list[Tensor]:
    """The middle ``[3,256,448]`` of each photograph, uint8, in the order of the classes."""
    return [_middle(file) for file in FILES.values()]


def _middle(file: str) -> Tensor:
    height, width = ROWS * SQUARE, COLUMNS * SQUARE
    with (
        open_packaged_file("photos", "skimage", f"data/{file}", distribution="scikit-image", extra="demo") as stream,
        Image.open(stream) as image,
    ):
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]
