"""One operation for each image of a batch, chosen on the host, and computed on the device of the images."""

from collections.abc import Callable, Sequence
from itertools import groupby

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

_MOST_NUMBERS = 6


def edited(image: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Images ``[B,C,H,W]``, int32, C 1 or 3, each after its edit; images of one operation go through it together.

    Raises:
        ValueError: an edit names no operation.
    """
    unknown = sorted({edit[0] for edit in edits} - OPERATIONS.keys())
    if unknown:
        raise ValueError(f"expected operations among {', '.join(OPERATIONS)}, got {', '.join(unknown)}")
    order = sorted(range(len(edits)), key=lambda position: edits[position][0])
    rows = [[position, *edits[position][1:]] for position in order]
    plan = torch.tensor([row + [0.0] * (1 + _MOST_NUMBERS - len(row)) for row in rows], dtype=torch.float64)
    parts = [(name, len(list(group))) for name, group in groupby(edits[position][0] for position in order)]
    answer = torch.empty_like(image)
    plans = torch.split(on_device(plan, image.device), [count for _, count in parts])
    for (name, _), part in zip(parts, plans, strict=True):
        positions = part[:, 0].long()
        answer[positions] = OPERATIONS[name](image[positions], part[:, 1:])
    return answer
