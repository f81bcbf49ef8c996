"""Transforms of batches on 8-bit images again, one image after the other: what their authors run on Pillow's images."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms import functional as official

from .references import Reference, Step, plain


def picture(x: Tensor) -> Image.Image:
    """An image ``[C,H,W]`` in [0, 1] as Pillow's, of 8 bits."""
    array = (x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def tensor_of(image: Image.Image, dtype: torch.dtype) -> Tensor:
    """``[C,H,W]`` in [0, 1], as torchvision's ToTensor."""
    array = np.array(image)
    return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1).to(dtype) / 255


def crop_shifted(image: Image.Image, cut: Sequence[int], start: Sequence[int], end: Sequence[int]) -> Image.Image:
    """CropShift as the paper writes it: a crop, black around it, and another crop; rows come first."""
    width, height = image.size
    smaller = official.crop(image, start[0], start[1], height - cut[0], width - cut[1])
    padded = official.pad(smaller, [cut[1], cut[0]], fill=0)
    return official.crop(padded, cut[0] - end[0], cut[1] - end[1], height, width)


RANGES = {
    "weak": [(0.1, 1.9), (0.5, 1.9), (0.5, 1.9), (0.1, 1.9), (0, 0), (0, 0), (0.05, 0.15), (1, 11)],
    "svhn": [(0.1, 1.9), (0.5, 1.9), (0.5, 1.9), (0.1, 1.9), (0, 0), (0, 0), (0.05, 0.35), (1, 31)],
}


def recoloured(
    image: Image.Image, operation: int, low: float, high: float, u: float, rows: bool, minus: bool
) -> Image.Image:
    """One operation of IDBH on colour or shape."""
    strength = low + u * (high - low)
    sign = -1 if minus else 1
    if operation < 4:
        blend = (
            official.adjust_saturation,
            official.adjust_brightness,
            official.adjust_contrast,
            official.adjust_sharpness,
        )
        return blend[operation](image, strength)
    if operation == 4:
        return official.autocontrast(image)
    if operation == 5:
        return official.equalize(image)
    if operation == 6:
        degrees = math.degrees(sign * strength)
        return official.affine(image, 0.0, [0, 0], 1.0, [degrees, 0.0] if rows else [0.0, degrees], fill=0)
    return official.rotate(image, sign * int(strength), fill=0)


def idbh_images(x: Tensor, draws: dict[str, Tensor], variant: str = "weak") -> Tensor:
    """Images ``[B,C,H,W]`` through IDBH, one after the other, with the draws of the plugin."""
    made = []
    for i, image in enumerate(map(picture, x)):
        flip, cut, start, end, operation, u, rows, minus, (top, left, high, wide) = (
            draws[f"idbh.{name}"][i].tolist()
            for name in ("flip", "cut", "start", "end", "operation", "strength", "axis", "sign", "rectangle")
        )
        mirrored = official.hflip(image) if flip else image
        shifted = crop_shifted(mirrored, cut, start, end)
        changed = recoloured(shifted, operation, *RANGES[variant][operation], u, rows, minus)
        made.append(official.erase(tensor_of(changed, x.dtype), top, left, high, wide, torch.zeros(())))
    return torch.stack(made)


def idbh(draws: dict[str, Tensor]) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        plain()(ref, idbh_images(x, draws), y, start)

    return step


class Drawn(AutoAugment):
    """AutoAugment of torchvision with given draws: number of the sub-policy, two chances, two signs."""

    def __init__(self, policy: str, number: int, chances: Tensor, signs: Tensor) -> None:
        super().__init__(AutoAugmentPolicy(policy))
        self.get_params = lambda count: (number, chances, signs.long())


def autoaugment_images(x: Tensor, draws: dict[str, Tensor], policy: str = "cifar10", cutout: int = 16) -> Tensor:
    """Images ``[B,C,H,W]`` through torchvision and the Cutout of CCG, one after the other."""
    made = []
    for i, image in enumerate(map(picture, x)):
        number, chances, signs = (draws[f"autoaugment.{name}"][i] for name in ("policy", "chance", "sign"))
        result = tensor_of(Drawn(policy, int(number), chances, signs)(image), x.dtype)
        row, column = draws["autoaugment.centre"][i].tolist()
        half = cutout // 2
        result[:, max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
        made.append(result)
    return torch.stack(made)


def autoaugment(draws: dict[str, Tensor], cutout: int) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        plain()(ref, autoaugment_images(x, draws, cutout=cutout), y, start)

    return step
