"""Cutout: one square of every training image is blanked.

Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552; in
adversarial training as in Rice, Wong, Kolter, arXiv:2002.11569, section 4: one square of 14 pixels fully inside the
image, set to 0 before normalisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.images import window


@dataclass(eq=False, kw_only=True)
class Cutout:
    """Sets one square of each training image ``[B,C,H,W]`` to a value.

    Args:
        size: side of the square in pixels.
        value: value of its pixels; inside the box of the threat model.

    The draw ``cutout.position`` may be injected: ``[B,2]`` int64, row and column of the upper left corners.
    """

    size: Annotated[int, Ge(1)] = 14
    value: float = 0.0

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        x = batch.x
        if x.dim() != 4 or self.size > min(x.shape[2:]):
            raise ValueError(f"expected images [B,C,H,W] of at least {self.size} pixels, got x of {tuple(x.shape)}")
        box = ctx.threat.box
        if box is not None and not box[0] <= self.value <= box[1]:
            raise ValueError(f"value: expected one in threat.box [{box[0]:g}, {box[1]:g}], got {self.value:g}")
        position = ctx.draw("position", (len(x), 2))
        if position is None:
            room = [side - self.size + 1 for side in x.shape[2:]]
            position = ctx.drawn("position", len(x), lambda n, generator: corners(n, room, generator))
        square = window(position, torch.full_like(position, self.size), *x.shape[2:])
        return replace(batch, x=x.clone().masked_fill_(square, self.value))


def corners(n: int, room: Sequence[int], generator: torch.Generator) -> Tensor:
    """``[n,2]`` upper left corners, uniform among as many rows and columns as there is ``room``."""
    drawn = [torch.randint(places, (n,), generator=generator, device=generator.device) for places in room]
    return torch.stack(drawn, 1)
