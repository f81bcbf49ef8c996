"""IDBH: flip, crop and shift, one operation on colour or shape, and erasing, with a given hardness and diversity.

Source: Li and Spratling, "Data Augmentation Alone Can Improve Adversarial Training", ICLR 2023, arXiv:2301.09879, with
the constants of its public code. As there, images have 8 bits a channel until the erasing, and pixels are resampled at
the nearest one: the numbers are those of Pillow and torchvision, image by image, computed for the whole batch on its
device. Every step draws anew, which is one draw an example and epoch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.images import (
    Edits,
    HostDraws,
    below,
    coins,
    crop_shift,
    edited,
    from_8bit,
    on_device,
    rotation,
    shear,
    to_8bit,
    window,
)


class Operation(NamedTuple):
    """An operation on colour or shape, its probability, and the range of its strength.

    The strength is the factor of a blend, an angle in radians (shear), or whole degrees below ``high`` (rotation).
    """

    name: str
    probability: float
    low: float = 0.0
    high: float = 0.0


COLOUR = (
    Operation("saturation", 0.125, 0.1, 1.9),
    Operation("brightness", 0.125, 0.5, 1.9),
    Operation("contrast", 0.125, 0.5, 1.9),
    Operation("sharpness", 0.125, 0.1, 1.9),
    Operation("autocontrast", 0.125),
    Operation("equalize", 0.125),
    Operation("shear", 0.125, 0.05, 0.15),
    Operation("rotation", 0.125, 1, 11),
)
SHAPE = (
    Operation("saturation", 0.08, 0.1, 1.9),
    Operation("brightness", 0.08, 0.5, 1.9),
    Operation("contrast", 0.04, 0.5, 1.9),
    Operation("sharpness", 0.08, 0.1, 1.9),
    Operation("autocontrast", 0.04),
    Operation("equalize", 0.08),
    Operation("shear", 0.3, 0.05, 0.35),
    Operation("rotation", 0.3, 1, 31),
)


class Hardness(NamedTuple):
    """The settings in which the variants differ."""

    operations: tuple[Operation, ...]
    max_shift: int
    erase: float
    largest: float


VARIANTS = {
    "weak": Hardness(COLOUR, max_shift=10, erase=0.5, largest=0.33),
    "strong": Hardness(COLOUR, max_shift=10, erase=1.0, largest=0.33),
    "svhn": Hardness(SHAPE, max_shift=8, erase=1.0, largest=0.5),
}


@dataclass(eq=False, kw_only=True)
class IDBH:
    """RandomHorizontalFlip, CropShift, one operation on colour or shape, RandomErasing, for images, C 1 or 3.

    Black and white are the two ends of the threat model's box.

    Args:
        variant: ``weak`` and ``strong`` are the paper's for CIFAR-10 (they differ in the erasing), ``svhn`` that for
            SVHN, with more operations on shape.
        flip: whether to mirror each image with probability 1/2, left to right.
        max_shift: largest number of rows and columns together that CropShift cuts off; default: the variant's, 10, or 8
            for ``svhn``.
        erase: probability that a rectangle is set to 0; default: the variant's, 0.5 for ``weak``, else 1.

    Draws that may be injected: ``idbh.flip`` (``[B]`` bool); ``idbh.cut``, ``idbh.start``, ``idbh.end`` (``[B,2]``
    int64, rows first: number of rows and columns that are cut off, upper left corner of the crop, and the corner to
    which it goes, each corner from 0 to ``cut``); ``idbh.operation`` (``[B]`` int64, 0 to 7: saturation, brightness,
    contrast, sharpness, autocontrast, equalize, shear, rotation); ``idbh.strength`` (``[B]`` in [0, 1), position in the
    operation's range); ``idbh.axis`` (``[B]`` bool: shear along rows, not columns); ``idbh.sign`` (``[B]`` bool: shear
    or rotation the other way); ``idbh.rectangle`` (``[B,4]`` int64: row and column of the upper left corner, height and
    width of what is erased, 0 for nothing).
    """

    variant: Literal["weak", "strong", "svhn"] = "weak"
    flip: bool = True
    max_shift: Annotated[int, Ge(0)] | None = None
    erase: Annotated[float, Interval(ge=0, le=1)] | None = None

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        x, box = batch.x, ctx.threat.box
        image = to_8bit(x, box)
        n, height, width = len(x), *x.shape[2:]
        if self._max_shift >= min(height, width):
            raise ValueError(
                f"max_shift: expected less than the image's {min(height, width)} pixels, got {self._max_shift}"
            )
        draws = HostDraws(ctx)
        mirrored = draws("flip", (n,), coins())
        cut, start, end = self._shifts(n, draws)
        rectangle = draws("rectangle", (n, 4), lambda n, generator: self._rectangles(n, height, width, generator))
        edits = self._edits(n, height, width, draws)
        columns = (mirrored[:, None] & self.flip, torch.tensor([height, width]) - cut, start, end, rectangle)
        plan = on_device(torch.cat([each.long() for each in columns], 1), x.device)
        flips, size, start, end, corner, area = torch.split(plan, [1, 2, 2, 2, 2, 2], 1)
        made = edited(crop_shift(image, size, start, end, flips[:, 0].bool()), edits)
        made.masked_fill_(window(corner, area, height, width), 0)
        return replace(batch, x=from_8bit(made, x, box))

    @property
    def _max_shift(self) -> int:
        return VARIANTS[self.variant].max_shift if self.max_shift is None else self.max_shift

    def _shifts(self, n: int, draws: HostDraws) -> tuple[Tensor, Tensor, Tensor]:
        """``[n,2]`` cut, start and end of CropShift."""

        def cuts(n: int, generator: torch.Generator) -> Tensor:
            both = torch.randint(self._max_shift + 1, (n,), generator=generator)
            columns = below(both + 1, generator)
            return torch.stack([both - columns, columns], 1)

        cut = draws("cut", (n, 2), cuts)
        return cut, draws.below("start", cut + 1), draws.below("end", cut + 1)

    def _edits(self, n: int, height: int, width: int, draws: HostDraws) -> Edits:
        """An operation for each image."""
        operations = VARIANTS[self.variant].operations
        chances = torch.tensor([each.probability for each in operations])
        chosen = draws(
            "operation", (n,), lambda n, generator: chances.multinomial(n, replacement=True, generator=generator)
        )
        strength = draws("strength", (n,), lambda n, generator: torch.rand(n, generator=generator))
        along_rows, other_way = (draws(name, (n,), coins()) for name in ("axis", "sign"))
        return edits_of(operations, chosen, strength, along_rows, other_way, (width / 2, height / 2))

    def _rectangles(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """``[n,4]`` corner, height and width of what RandomErasing erases."""
        hardness = VARIANTS[self.variant]
        erased = torch.rand(n, generator=generator) < (hardness.erase if self.erase is None else self.erase)
        shares, ratios = torch.rand((2, n, TRIES), dtype=torch.float64, generator=generator)
        area = height * width * (SMALLEST + shares * (hardness.largest - SMALLEST))
        ratio = torch.exp(math.log(RATIOS[0]) + ratios * math.log(RATIOS[1] / RATIOS[0]))
        sizes = torch.stack([(area * ratio).sqrt().round(), (area / ratio).sqrt().round()], 2).long()
        fits = (sizes < torch.tensor([height, width])).all(2)
        first = fits.long().argmax(1)
        size = sizes[torch.arange(n), first] * (fits.any(1) & erased)[:, None]
        corner = below(torch.tensor([height, width]) - size + 1, generator)
        return torch.cat([corner, size], 1)


SMALLEST, RATIOS, TRIES = 0.02, (0.3, 3.3), 10
"""Constants of torchvision's RandomErasing: smallest share of the area, height over width, tries to fit."""


def edits_of(
    operations: Sequence[Operation],
    chosen: Tensor,
    strength: Tensor,
    along_rows: Tensor,
    other_way: Tensor,
    centre: tuple[float, float],
) -> Edits:
    """The edits of the operations at ``chosen [n]``, at positions ``strength [n]`` in [0, 1) of their ranges.

    Args:
        operations: the operations.
        chosen: ``[n]`` int64, positions among them.
        strength: ``[n]``.
        along_rows: ``[n]`` bools: a shear moves pixels along their rows, not columns.
        other_way: ``[n]`` bools: the shear or turn is negative.
        centre: column and row of the images' centre.
    """
    low, high = (torch.tensor([each[side] for each in operations], dtype=torch.float64)[chosen] for side in (2, 3))
    size = low + strength.double() * (high - low)
    signed = torch.where(other_way, -size, size)
    slopes = zip(map(math.tan, signed.tolist()), along_rows.tolist(), strict=True)
    degrees, turn = torch.unique(signed.trunc(), return_inverse=True)
    matrices = {
        "shear": torch.tensor([shear(slope, rows, centre) for slope, rows in slopes], dtype=torch.float64),
        "rotation": torch.tensor([rotation(each, centre) for each in degrees.tolist()], dtype=torch.float64)[turn],
    }
    numbers = F.pad(size[:, None], (0, 5))
    for name, own in matrices.items():
        numbers = torch.where(torch.tensor([each.name == name for each in operations])[chosen, None], own, numbers)
    kinds = Edits.of([("affine" if each.name in matrices else each.name,) for each in operations])
    return Edits(kinds.operations[chosen], numbers)
