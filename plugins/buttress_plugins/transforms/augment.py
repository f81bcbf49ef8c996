"""Augment: random crop, flip and rotation of whole batches, on their device.

Source: Rice, Wong, Kolter, "Overfitting in adversarially robust deep learning", arXiv:2002.11569: its public code
(RO lineage) has these crops and flips, with reflection padding for CIFAR-10; the TRADES lineage pads with zeros. The
code of AWP and RWP has a rotation by up to 15 degrees for CIFAR-100. Every step draws anew, which is one draw an
example and epoch.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.images import pixels_at


@dataclass(eq=False, kw_only=True)
class Augment:
    """Pad, crop back, flip and rotate the training images ``[B,C,H,W]``.

    Args:
        pad: number of pixels added on every side before a crop of the original size is cut out; 0 for no crop.
        padding: content of the added pixels: ``reflect`` mirrors the image, ``zeros``.
        flip: whether to mirror each image with probability 1/2, left to right.
        rotation: largest angle in degrees, either way; zeros come in from outside; 0 for none.
        interpolation: interpolation of the rotation: ``nearest`` pixel (torchvision's default, and so the papers'), or
            ``bilinear``.

    Draws that may be injected: ``augment.crop`` (``[B,2]`` int64 offsets, 0 to 2 pad, rows first), ``augment.flip``
    (``[B]`` bool), ``augment.rotation`` (``[B]`` degrees, counter-clockwise).
    """

    pad: Annotated[int, Ge(0)] = 4
    padding: Literal["reflect", "zeros"] = "reflect"
    flip: bool = True
    rotation: Annotated[float, Ge(0), Le(180)] = 0.0
    interpolation: Literal["nearest", "bilinear"] = "nearest"

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        x = batch.x
        if x.dim() != 4:
            raise ValueError(f"expected images [B,C,H,W], got x of shape {tuple(x.shape)}; leave augment out")
        if self.pad or self.flip:
            x = crop(x, self._offsets(x, ctx), self.pad, self.padding, self._mirrored(x, ctx))
        if self.rotation:
            x = rotate(x, self._degrees(x, ctx), self.interpolation)
        layout = torch.channels_last if _is_channels_last(batch.x) else torch.contiguous_format
        return replace(batch, x=x.contiguous(memory_format=layout))

    def _offsets(self, x: Tensor, ctx: Context) -> Tensor | None:
        if not self.pad:
            return None
        if self.padding == "reflect" and self.pad >= min(x.shape[2:]):
            raise ValueError(f"pad: reflection needs less than the image's {min(x.shape[2:])} pixels, got {self.pad}")
        offsets = ctx.draw("crop", (len(x), 2))
        if offsets is not None:
            return offsets
        places = 2 * self.pad + 1
        return ctx.drawn(
            "crop", len(x), lambda n, generator: torch.randint(places, (n, 2), generator=generator, device=x.device)
        )

    def _mirrored(self, x: Tensor, ctx: Context) -> Tensor | None:
        if not self.flip:
            return None
        mirrored = ctx.draw("flip", (len(x),))
        if mirrored is not None:
            return mirrored
        return ctx.drawn("flip", len(x), lambda n, generator: torch.rand(n, generator=generator, device=x.device) < 0.5)

    def _degrees(self, x: Tensor, ctx: Context) -> Tensor:
        degrees = ctx.draw("rotation", (len(x),))
        if degrees is not None:
            return degrees
        uniform = ctx.drawn(
            "rotation",
            len(x),
            lambda n, generator: torch.rand(n, generator=generator, dtype=x.dtype, device=x.device),
        )
        return self.rotation * (2 * uniform - 1)


def crop(x: Tensor, offsets: Tensor | None, pad: int, padding: str, mirrored: Tensor | None = None) -> Tensor:
    """Crops ``[B,C,H,W]`` of the padded images, mirrored left to right where ``mirrored [B]`` says so.

    Args:
        x: images ``[B,C,H,W]``.
        offsets: ``[B,2]`` int64, row and column of the crops in the padded images; None: no crop.
        pad: number of pixels added on every side.
        padding: content of the added pixels, ``reflect`` or ``zeros``.
        mirrored: ``[B]`` bools; None: no image.
    """
    height, width = x.shape[2:]
    row, column = (torch.arange(n, device=x.device).expand(len(x), n) for n in (height, width))
    if mirrored is not None:
        column = torch.where(mirrored[:, None], width - 1 - column, column)
    if offsets is None:
        return pixels_at(x, row[:, :, None], column[:, None, :])
    row, column = row + (offsets[:, :1] - pad), column + (offsets[:, 1:] - pad)
    nearest = _reflected if padding == "reflect" else _inside
    made = pixels_at(x, nearest(row, height)[:, :, None], nearest(column, width)[:, None, :])
    if padding == "reflect":
        return made
    is_image = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
    return torch.where(is_image[:, None], made, 0)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Places beyond 0 and ``size - 1`` mirrored at these."""
    return size - 1 - (size - 1 - place.abs()).abs()


def _inside(place: Tensor, size: int) -> Tensor:
    return place.clamp(0, size - 1)


def rotate(x: Tensor, degrees: Tensor, interpolation: str = "nearest") -> Tensor:
    """Images ``[B,C,H,W]`` turned counter-clockwise about their centre by ``degrees [B]``; zeros from outside."""
    angle = torch.deg2rad(degrees.to(x.dtype))
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    height, width = x.shape[2:]
    # From a pixel of the result to the place it comes from, in units of half the image's sides.
    turn = torch.stack(
        [
            torch.stack([cos, -sin * (height / width), zero], 1),
            torch.stack([sin * (width / height), cos, zero], 1),
        ],
        1,
    )
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    turned = F.grid_sample(x, grid, mode=interpolation, padding_mode="zeros", align_corners=False)
    if interpolation == "nearest":
        return turned
    # The four weights of a pixel may add up to a little more than 1: stay among the values that went in.
    return turned.clamp(x.amin().clamp(max=0), x.amax().clamp(min=0))


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
