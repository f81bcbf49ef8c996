"""Stripes: noisy images of horizontal and of vertical stripes, drawn afresh."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Data, Split
from buttress.data import seeded_generator

SIZE = 8


@dataclass(eq=False, kw_only=True)
class Example:
    """Images ``[n,1,8,8]`` in [0, 1], of two classes: horizontal stripes and vertical ones.

    Args:
        per_class: number of images of each class, in each of the three splits.
        noise: standard deviation of the noise on a pixel.
    """

    per_class: Annotated[int, Interval(ge=1, le=1_000_000)] = 200
    noise: Annotated[float, Ge(0)] = 0.3

    def load(self, seed: int) -> Data:
        """The splits; ``seed`` is that of the run."""
        train, validation, test = (self._split(seed, name) for name in ("train", "validation", "test"))
        return Data(train=train, validation=validation, test=test, num_classes=2)

    def _split(self, seed: int, name: str) -> Split:
        generator = seeded_generator("cpu", seed, "stripes", name)
        y = torch.arange(2).repeat_interleave(self.per_class)
        noise = torch.randn((len(y), 1, SIZE, SIZE), generator=generator)
        return Split((stripes(y) + self.noise * noise).clamp(0, 1), y)


def stripes(y: Tensor) -> Tensor:
    """``[n,1,8,8]`` images: rows of 0 and 1 in turns where the label ``y [n]`` is 0, such columns where it is 1."""
    rows = (torch.arange(SIZE) % 2).float().view(SIZE, 1).expand(SIZE, SIZE)
    return torch.stack([rows, rows.T])[y].unsqueeze(1)


def test_stripes_follow_the_label() -> None:
    horizontal, vertical = stripes(torch.tensor([0, 1]))
    assert horizontal[0, :, 0].tolist() == vertical[0, 0].tolist() == [0, 1] * 4
    assert vertical[0, :, 0].tolist() == [0] * 8


def test_splits_differ_and_repeat() -> None:
    data, again = Example(per_class=3).load(0), Example(per_class=3).load(0)
    assert len(data.train) == 6
    assert torch.equal(data.train.x, again.train.x)
    assert not torch.equal(data.train.x, data.test.x)
