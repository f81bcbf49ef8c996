"""The problem on which both sides train: a network and a batch; the real one, or one for tests."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from buttress import Engine
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny

from .official import sgd
from .settings import Setting
from .stacks import THREAT, Stack


class Sizes(NamedTuple):
    """A network and the batches on which it is trained.

    Args:
        model: makes the network.
        batch: number of examples of a batch.
        side: number of rows, and of columns, of an image.
    """

    model: Callable[..., nn.Module]
    batch: int
    side: int


REAL, SMALL = Sizes(preact_resnet18, 32, 32), Sizes(preact_tiny, 8, 8)


@dataclass(eq=False)
class Problem:
    """A stack on a network and a batch, always the same; each candidate trains a copy of the network.

    Args:
        stack: method to train with.
        sizes: network and batch.
        device: device of the network and of the batch.
        dtype: dtype of both.
    """

    stack: Stack
    sizes: Sizes
    device: torch.device
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        kind = {"device": self.device, "dtype": self.dtype}
        self.model = self.sizes.model(in_channels=3, num_classes=10).to(**kind)
        self.x = torch.rand(self.sizes.batch, 3, self.sizes.side, self.sizes.side).to(**kind)
        self.y = torch.randint(10, (self.sizes.batch,)).to(self.device)
        self.start = self.stack.start(self.x)

    def public(self, layout: torch.memory_format = torch.contiguous_format) -> "Side":
        """The public code's side."""
        model = self._copied(layout)
        official = self.stack.official(model)
        x, start = (each.contiguous(memory_format=layout) for each in (self.x, self.start))
        return Side(model, lambda: official.step(x, self.y, start))

    def engine(self, setting: Setting, **options: Any) -> "Side":
        """The engine's side, with the optimizer that a config has: fused; ``options`` go to ``Engine``."""
        model = self._copied(setting.layout)
        engine = Engine(model, sgd(model, fused=True), self.stack.plugins, THREAT, **setting.options, **options)
        x, start = (each.contiguous(memory_format=setting.layout) for each in (self.x, self.start))
        return Side(model, lambda: engine.step(x, self.y, draws={"pgd.start": start}).adv.x)

    def _copied(self, layout: torch.memory_format) -> nn.Module:
        return copy.deepcopy(self.model).to(memory_format=layout)


class Side(NamedTuple):
    """A model, and a function that makes one step on the batch and returns the adversarial examples."""

    model: nn.Module
    step: Callable[[], Tensor]
