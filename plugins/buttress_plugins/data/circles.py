"""The toy data of the PIAT paper: two noisy concentric circles, one a class.

Source: Liu, Yang, He, Hopcroft, "Parameter Interpolation Adversarial Training for Robust Image Classification",
arXiv:2511.00836, section III-A, which says binary, three features, two concentric circles of different radii, an angle
and noise. Its equations and constants are not recoverable: this is a reconstruction, every constant a setting.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from buttress import Data, Split
from buttress.data import seeded_generator


@dataclass(eq=False, kw_only=True)
class Circles:
    """``[(r_k + n1) cos t, (r_k + n1) sin t, n2]`` with ``t ~ U[0, 2 pi)`` and ``n ~ N(0, noise^2)``; no box.

    Write ``threat: {..., box: null}``.

    Args:
        per_class: number of examples of each class, in each of the three splits.
        inner: radius of class 0.
        outer: radius of class 1.
        noise: standard deviation of n1 and n2.
        split_seed: seed of the draws; default: the run's seed.
    """

    per_class: Annotated[int, Interval(ge=1, le=10_000_000)] = 1000
    inner: Annotated[float, Gt(0)] = 1.0
    outer: Annotated[float, Gt(0)] = 2.0
    noise: Annotated[float, Ge(0)] = 0.1
    split_seed: Annotated[int, Ge(0)] | None = None

    def load(self, seed: int) -> Data:
        """The splits, each drawn afresh; ``seed`` is the run's, and holds where ``split_seed`` is not set."""
        seed = seed if self.split_seed is None else self.split_seed
        train, validation, test = (self._split(seed, name) for name in ("train", "validation", "test"))
        return Data(train=train, validation=validation, test=test, num_classes=2)

    def _split(self, seed: int, name: str) -> Split:
        generator = seeded_generator("cpu", seed, "circles", name)
        y = torch.arange(2).repeat_interleave(self.per_class)
        t = 2 * torch.pi * torch.rand(len(y), generator=generator)
        n1, n2 = self.noise * torch.randn((2, len(y)), generator=generator)
        return Split(circles(torch.tensor((self.inner, self.outer))[y], t, n1, n2), y)


def circles(radius: Tensor, t: Tensor, n1: Tensor, n2: Tensor) -> Tensor:
    """``[n,3]`` points at angle t and distance ``radius + n1``, at height n2."""
    return torch.stack([(radius + n1) * torch.cos(t), (radius + n1) * torch.sin(t), n2], dim=1)
