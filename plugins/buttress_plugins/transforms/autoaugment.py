"""AutoAugment from an epoch on: two operations of a learned policy for each image, then a blank square.

Source: Cubuk, Zoph, Mane, Vasudevan, Le, "AutoAugment: Learning Augmentation Policies from Data", arXiv:1805.09501; in
adversarial training as in Tack, Yu, Jeong, Kim, Hwang, Shin, "Consistency Regularization for Adversarial Robustness",
arXiv:2103.04623: crops and flips alone for the first half of training, from then on also the policy of CIFAR-10 and
Cutout. Policies and magnitudes are torchvision's. As there, the operations see images of 8 bits a channel and resample
at the nearest pixel, and the numbers are those of torchvision on Pillow images.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torchvision.transforms import AutoAugment as Torchvision
from torchvision.transforms import AutoAugmentPolicy

from buttress import Batch, Context, hookimpl
from buttress.images import (
    Edit,
    Edits,
    HostDraws,
    coins,
    edited,
    from_8bit,
    on_device,
    rotation,
    shear,
    to_8bit,
    translation,
    window,
)
from buttress.settings import Epoch

BLENDS = {"Brightness": "brightness", "Color": "saturation", "Contrast": "contrast", "Sharpness": "sharpness"}
LEVELS = 10


@dataclass(eq=False, kw_only=True)
class AutoAugment:
    """From epoch ``start`` on, a sub-policy of two operations for each image, then one black square.

    For images, C 1 or 3; black and white are the two ends of the threat model's box. Crops and flips are those of
    ``augment``, listed before it.

    Args:
        policy: policy, named after the data set for which it was learned: ``cifar10``, ``svhn`` or ``imagenet``.
        start: first epoch with the policy: 0-based epoch, or a fraction of the epochs in (0, 1).
        cutout: side of the square in pixels, rounded down to an even number; its centre lies anywhere in the image, so
            that it may reach over the border; 0 for none.

    Draws that may be injected: ``autoaugment.policy`` (``[B]`` int64, number of the sub-policy), ``autoaugment.chance``
    (``[B,2]`` in [0, 1): an operation is applied where it is at most the operation's probability),
    ``autoaugment.sign`` (``[B,2]`` bool: the magnitude is positive), ``autoaugment.centre`` (``[B,2]`` int64, row and
    column of the square's centre).
    """

    policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10"
    start: Epoch = 0.5
    cutout: Annotated[int, Ge(0)] = 16

    def __post_init__(self) -> None:
        self._sub_policies = Torchvision(AutoAugmentPolicy(self.policy)).policies
        chances = [[probability for _, probability, _ in pair] for pair in self._sub_policies]
        self._probabilities = torch.tensor(chances, dtype=torch.float64)
        self._tables: dict[tuple[int, int], Edits] = {}

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        if ctx.epoch < ctx.resolve_epoch(self.start):
            return batch
        x, box = batch.x, ctx.threat.box
        image = to_8bit(x, box)
        n, height, width = len(x), *x.shape[2:]
        draws = HostDraws(ctx)
        for edits in self._edits(n, height, width, draws):
            image = edited(image, edits)
        half = self.cutout // 2
        if half:
            centre = on_device(draws.below("centre", torch.tensor([height, width]).expand(n, 2)), x.device)
            corner, area = centre - half, torch.full_like(centre, 2 * half)
            image = image.masked_fill_(window(corner, area, height, width), 0)
        return replace(batch, x=from_8bit(image, x, box))

    def _edits(self, n: int, height: int, width: int, draws: HostDraws) -> list[Edits]:
        """The first operation for each image, and the second."""
        count = len(self._sub_policies)
        chosen = draws("policy", (n,), lambda n, generator: torch.randint(count, (n,), generator=generator))
        chance = draws("chance", (n, 2), lambda n, generator: torch.rand(n, 2, generator=generator))
        positive = draws("sign", (n, 2), coins(2))
        table, is_applied = self._table(height, width), chance <= self._probabilities[chosen]
        rows = torch.where(is_applied, 4 * chosen[:, None] + torch.tensor([0, 2]) + positive, 4 * count)
        return [table[rows[:, 0]], table[rows[:, 1]]]

    def _table(self, height: int, width: int) -> Edits:
        """The edits of all sub-policies, two operations each, negative and positive, and last that of no operation."""
        if (height, width) not in self._tables:
            operations = [operation for pair in self._sub_policies for operation in pair]
            edits = [edit(name, level, plus, height, width) for name, _, level in operations for plus in (False, True)]
            self._tables[height, width] = Edits.of([*edits, ("identity",)])
        return self._tables[height, width]


def edit(name: str, level: int | None, positive: bool, height: int, width: int) -> Edit:
    """The edit of an operation of a policy at a level, 0 to 9, with a sign."""
    size = magnitude(name, level or 0, height, width)
    signed = size if positive else -size
    match name:
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return (BLENDS[name], 1 + signed)
        case "ShearX" | "ShearY":
            return ("affine", *shear(signed, name == "ShearX", (0, 0)))
        case "Rotate":
            return ("affine", *rotation(signed, (width / 2, height / 2)))
        case "TranslateX":
            return ("affine", *translation(int(signed), 0))
        case "TranslateY":
            return ("affine", *translation(0, int(signed)))
    return (name.lower(), size)  # Posterize, Solarize; AutoContrast, Equalize and Invert have no magnitude


def magnitude(name: str, level: int, height: int, width: int) -> float:
    """The magnitude of an operation at ``level``: slope, pixels, degrees, change of a factor, bits or threshold."""
    if name == "Posterize":
        return 8 - round(level / (LEVELS - 1) * 4)
    first, last = {
        "TranslateX": (0.0, 150 / 331 * width),
        "TranslateY": (0.0, 150 / 331 * height),
        "Rotate": (0.0, 30.0),
        "Solarize": (255.0, 0.0),
        "ShearX": (0.0, 0.3),
        "ShearY": (0.0, 0.3),
    }.get(name, (0.0, 0.9))
    return float(torch.linspace(first, last, LEVELS)[level])
