"""Operations on places: resampling by the nearest pixel, as Pillow has it, crops that move, and rectangles."""

import math

import torch
from torch import Tensor

Matrix = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)``: the result at column u, row v is the image at ``(a u + b v + c, d u + e v + f)``."""

_UNIT = 2**16  # Pillow's places are whole numbers of this part of a pixel


def shear(slope: float, along_rows: bool, centre: tuple[float, float]) -> Matrix:
    """Pixels move along their row or column by ``slope`` times their distance from ``centre`` (column, row)."""
    column, row = centre
    return (1.0, slope, -slope * row, 0.0, 1.0, 0.0) if along_rows else (1.0, 0.0, 0.0, slope, 1.0, -slope * column)


def rotation(degrees: float, centre: tuple[float, float]) -> Matrix:
    """A turn counter-clockwise about ``centre`` (column, row)."""
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    column, row = centre
    return (cos, sin, column - cos * column - sin * row, -sin, cos, row + sin * column - cos * row)


def translation(right: int, down: int) -> Matrix:
    """A move by whole pixels."""
    return (1.0, 0.0, float(-right), 0.0, 1.0, float(-down))


def affine(image: Tensor, matrices: Tensor) -> Tensor:
    """Images ``[B,C,H,W]`` resampled at the nearest pixel by ``matrices [B,6]`` (see ``Matrix``); 0 from outside."""
    a, b, c, d, e, f = matrices.double().unbind(1)
    height, width = image.shape[2:]
    column = torch.arange(width, device=image.device)
    row = torch.arange(height, device=image.device)[:, None]

    def place(per_column: Tensor, per_row: Tensor, first: Tensor) -> Tensor:
        """``[B,H,W]`` whole coordinates."""
        at_centre = first + per_column * 0.5 + per_row * 0.5
        steps = [(each * _UNIT + 0.5).floor().long()[:, None, None] for each in (per_column, per_row, at_centre)]
        return (steps[2] + steps[1] * row + steps[0] * column) >> 16

    u, v = place(a, b, c), place(d, e, f)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    source = (v.clamp(0, height - 1) * width + u.clamp(0, width - 1)).flatten(1)
    pixels = image.flatten(2).gather(2, source[:, None].expand(-1, image.shape[1], -1))
    return torch.where(inside[:, None], pixels.view_as(image), 0)


def crop_shift(image: Tensor, size: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The window of ``size [B,2]`` at ``start [B,2]`` moved to ``end [B,2]``, the rest 0; each (rows, columns)."""
    height, width = image.shape[2:]
    down, right = (start - end).double().unbind(1)
    one, zero = torch.ones_like(down), torch.zeros_like(down)
    moved = affine(image, torch.stack([one, zero, right, zero, one, down], 1))
    return torch.where(window(end, size, height, width), moved, 0)


def window(start: Tensor, size: Tensor, height: int, width: int) -> Tensor:
    """``[B,1,H,W]`` bools: inside the rectangles of ``size [B,2]`` whose upper left corners are ``start [B,2]``.

    Rows come first in both. A rectangle may reach beyond the image.
    """
    rows, columns = (torch.arange(n, device=start.device) for n in (height, width))
    top, left = start[:, :1], start[:, 1:]
    in_rows = (rows >= top) & (rows < top + size[:, :1])
    in_columns = (columns >= left) & (columns < left + size[:, 1:])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
