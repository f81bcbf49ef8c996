"""Random numbers drawn on the host: nothing then waits for the device to know which image gets which operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from buttress.engine.context import Context


class HostDraws:
    """The draws of one plugin in one step: those that the caller injected, or from streams of the plugin's own.

    Args:
        ctx: context of the plugin.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def __call__(self, purpose: str, shape: tuple[int, ...], make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The injected draw ``purpose`` of ``shape``, else the answer of ``make`` to a generator, on the CPU."""
        given = self._ctx.draw(purpose, shape)
        return make(self._ctx.generator(purpose, device="cpu")) if given is None else given.cpu()


def coins(*shape: int) -> Callable[[torch.Generator], Tensor]:
    """Makes bools of ``shape``, each true with probability 1/2."""
    return lambda generator: torch.rand(shape, generator=generator) < 0.5


def below(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform whole numbers, int64, from 0 to one below each of ``counts``."""
    return (torch.rand(counts.shape, dtype=torch.float64, generator=generator) * counts).long()
