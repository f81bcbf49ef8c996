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
    return torch.where(inside[:, None], pixels_at(image, v.clamp(0, height - 1), u.clamp(0, width - 1)), 0)


def pixels_at(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Images ``[B,C,H,W]`` made of other pixels of each, in the layout of ``image``; for a batch, in one operation.

    Args:
        image: images ``[B,C,H,W]``.
        row: ``[B,H,W]`` int64, or a shape that becomes it: rows of the pixels that are taken.
        column: their columns.
    """
    channels, height, width = image.shape[1:]
    source = (row * width + column).flatten(1)
    if image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous():
        first = torch.arange(len(image), device=image.device)[:, None] * (height * width)
        pixels = image.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, (first + source).flatten())
        return pixels.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return image.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view(image.shape)


def crop_shift(image: Tensor, size: Tensor, start: Tensor, end: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """The window of ``size [B,2]`` at ``start [B,2]`` moved to ``end [B,2]``, the rest 0; each (rows, columns).

    Images are turned left to right before, where ``mirrored [B]`` says so.
    """
    height, width = image.shape[2:]
    row, column = (
        torch.arange(n, device=image.device) + (start - end)[:, axis, None] for axis, n in enumerate((height, width))
    )
    in_rows = (row >= 0) & (row < height) & _span(end[:, :1], size[:, :1], height)
    in_columns = (column >= 0) & (column < width) & _span(end[:, 1:], size[:, 1:], width)
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    if mirrored is not None:
        column = torch.where(mirrored[:, None], width - 1 - column, column)
    moved = pixels_at(image, row[:, :, None], column[:, None, :])
    return moved.masked_fill_(~_rectangle(in_rows, in_columns), 0)


def window(start: Tensor, size: Tensor, height: int, width: int) -> Tensor:
    """``[B,1,H,W]`` bools: inside the rectangles of ``size [B,2]`` whose upper left corners are ``start [B,2]``.

    Rows come first in both. A rectangle may reach beyond the image.
    """
    return _rectangle(_span(start[:, :1], size[:, :1], height), _span(start[:, 1:], size[:, 1:], width))


def _span(start: Tensor, size: Tensor, length: int) -> Tensor:
    """``[B,length]`` bools: among the ``size [B,1]`` places from ``start [B,1]`` on."""
    places = torch.arange(length, device=start.device)
    return (places >= start) & (places < start + size)


def _rectangle(in_rows: Tensor, in_columns: Tensor) -> Tensor:
    """``[B,1,H,W]`` bools: in the rows ``[B,H]`` and in the columns ``[B,W]``."""
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
