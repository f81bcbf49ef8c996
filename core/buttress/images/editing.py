"""One operation for each image of a batch, chosen on the host, and computed on the device of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from buttress.images import colours
from buttress.images.geometry import affine
from buttress.images.transfer import on_device

Edit = tuple[str, *tuple[float, ...]]
"""Name of an operation of ``OPERATIONS``, and its numbers: ``("contrast", 1.3)``, ``("equalize",)``."""

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda image, numbers: image,
    "brightness": lambda image, numbers: colours.brightness(image, numbers[:, 0]),
    "contrast": lambda image, numbers: colours.contrast(image, numbers[:, 0]),
    "saturation": lambda image, numbers: colours.saturation(image, numbers[:, 0]),
    "sharpness": lambda image, numbers: colours.sharpness(image, numbers[:, 0]),
    "autocontrast": lambda image, numbers: colours.autocontrast(image),
    "equalize": lambda image, numbers: colours.equalize(image),
    "invert": lambda image, numbers: colours.invert(image),
    "posterize": lambda image, numbers: colours.posterize(image, numbers[:, 0]),
    "solarize": lambda image, numbers: colours.solarize(image, numbers[:, 0]),
    "affine": affine,
}
"""Name of an operation to ``(images [n,C,H,W], their numbers [n,6])`` to images.

The number of the four blends is their factor, that of ``posterize`` the bits that stay, that of ``solarize`` the
smallest number that is inverted; ``affine`` has the six of a ``Matrix``.
"""

_NAMES = tuple(OPERATIONS)
_MOST_NUMBERS = 6


@dataclass(frozen=True)
class Edits:
    """Edits of n images as tensors on the host; ``edits[rows]`` gives those at ``rows [m]``, int64.

    Args:
        operations: ``[n]`` int64, positions of the operations among ``OPERATIONS``.
        numbers: ``[n,6]`` float64, their numbers, followed by zeros.
    """

    operations: Tensor
    numbers: Tensor

    @staticmethod
    def of(edits: Sequence[Edit]) -> Edits:
        """Make them of single edits.

        Raises:
            ValueError: an edit names no operation.
        """
        unknown = sorted({edit[0] for edit in edits} - OPERATIONS.keys())
        if unknown:
            raise ValueError(f"expected operations among {', '.join(OPERATIONS)}, got {', '.join(unknown)}")
        rows = [[*edit[1:], *[0.0] * (_MOST_NUMBERS + 1 - len(edit))] for edit in edits]
        numbers = torch.tensor(rows, dtype=torch.float64).view(-1, _MOST_NUMBERS)
        return Edits(torch.tensor([_NAMES.index(edit[0]) for edit in edits], dtype=torch.int64), numbers)

    def __getitem__(self, rows: Tensor) -> Edits:
        return Edits(self.operations[rows], self.numbers[rows])


def edited(image: Tensor, edits: Edits | Sequence[Edit]) -> Tensor:
    """Images ``[B,C,H,W]``, int32, C 1 or 3, each after its edit; images of one operation go through it together.

    Raises:
        ValueError: an edit names no operation.
    """
    edits = edits if isinstance(edits, Edits) else Edits.of(edits)
    order = edits.operations.argsort(stable=True)
    counts = edits.operations.bincount(minlength=len(_NAMES)).tolist()
    plan = torch.cat([order[:, None], order.argsort()[:, None], edits.numbers[order]], 1)  # whole numbers are exact
    there, back, numbers = torch.split(on_device(plan, image.device), [1, 1, _MOST_NUMBERS], 1)
    ordered = image.index_select(0, there[:, 0].long())
    parts = zip(OPERATIONS.values(), torch.split(ordered, counts), torch.split(numbers, counts), strict=True)
    made = [operation(images, own) for operation, images, own in parts if len(images)]
    return torch.cat(made).index_select(0, back[:, 0].long()) if made else image
