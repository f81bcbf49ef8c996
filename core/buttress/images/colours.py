"""Operations on colours: ``[B,C,H,W]`` int32 numbers 0 to 255, C 1 or 3, to others, as Pillow computes them.

Pillow blends in float32 and drops the fraction, and computes everything else here in whole numbers or in float64.
"""

import torch
from torch import Tensor

LAST = 255
"""The largest 8-bit number."""


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Blends of black and the images; ``factor [B]`` 1 leaves an image as it is."""
    return _blended(torch.zeros_like(image), image, factor)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Blends of each image's mean grey and the image; ``factor [B]`` 1 leaves an image as it is."""
    total, pixels = _grey(image).sum((1, 2, 3), keepdim=True), image.shape[2] * image.shape[3]
    mean = (2 * total + pixels) // (2 * pixels)  # rounded, halves upwards
    return _blended(mean.to(image.dtype).expand_as(image), image, factor)


def saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Blends of the grey images and the images; ``factor [B]`` 1 leaves an image as it is."""
    return _blended(_grey(image).expand_as(image), image, factor)


def sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Blends of the smoothed images and the images; ``factor [B]`` 1 leaves an image as it is.

    A smoothed pixel is the mean of the nine around it, with weight 5 on itself; pixels at the border stay.
    """
    rows = image[:, :, :-2] + image[:, :, 1:-1] + image[:, :, 2:]
    square = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    total, count = square + 4 * image[:, :, 1:-1, 1:-1], 13
    smooth = image.clone()
    smooth[:, :, 1:-1, 1:-1] = (2 * total + count) // (2 * count)
    return _blended(smooth, image, factor)


def autocontrast(image: Tensor) -> Tensor:
    """The smallest number of each channel becomes 0, the largest 255; a channel of one number stays."""
    low, high = (each.double() for each in torch.aminmax(image.flatten(2), dim=2))
    low, high = low[..., None, None], high[..., None, None]
    scale = torch.full_like(high, LAST) / (high - low)  # a number over a tensor would round twice
    stretched = (image * scale + -low * scale).clamp(0, LAST)
    return torch.where(high > low, stretched, image.double()).to(image.dtype)


def equalize(image: Tensor) -> Tensor:
    """The numbers of each channel spread so that each range of them holds as many pixels as any other."""
    pixels = image.flatten(2).long()
    counts = pixels.new_zeros((*pixels.shape[:2], LAST + 1)).scatter_add_(2, pixels, torch.ones_like(pixels))
    smaller = counts.cumsum(2) - counts  # number of pixels below each number, in its channel
    step = smaller.where(counts > 0, 0).amax(2, keepdim=True) // LAST
    spread = ((step // 2 + smaller) // step.clamp(min=1)).clamp(max=LAST)
    spread = torch.where(step > 0, spread, torch.arange(LAST + 1, device=image.device))
    return spread.to(image.dtype).gather(2, pixels).view(image.shape)


def invert(image: Tensor) -> Tensor:
    """``255 - image``."""
    return LAST - image


def posterize(image: Tensor, bits: Tensor) -> Tensor:
    """The highest ``bits [B]`` of the 8 bits of every number, the others zero."""
    step = 2 ** (8 - _each(bits).to(image.dtype))
    return image // step * step


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    """Numbers from ``threshold [B]`` on inverted."""
    return torch.where(image < _each(threshold), image, LAST - image)


def _grey(image: Tensor) -> Tensor:
    """``[B,1,H,W]``: brightness after ITU-R 601-2, its weights in 65536ths as Pillow has them."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey[:, None]


def _blended(start: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    """``start + factor (end - start)``, within 0 and 255, without its fraction."""
    moved = _each(factor).float() * (end - start) + start
    return moved.clamp_(0, LAST).to(end.dtype)


def _each(numbers: Tensor) -> Tensor:
    """``[B]`` to ``[B,1,1,1]``."""
    return numbers[:, None, None, None]
