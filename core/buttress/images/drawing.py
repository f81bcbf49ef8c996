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

    def __call__(self, purpose: str, shape: tuple[int, ...], make: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Numbers for each of the ``shape[0]`` images of a batch, on the CPU.

        Args:
            purpose: purpose of the draw.
            shape: ``(n, *)``, shape of the draw for the n images here.
            make: makes ``[n,*]`` numbers for n images from a generator, where the caller injected none; it is asked
                for those of the whole batch, so that they do not depend on the number of processes.
        """
        given = self._ctx.draw(purpose, shape)
        return self._ctx.drawn(purpose, shape[0], make, device="cpu") if given is None else given.cpu()

    def below(self, purpose: str, counts: Tensor) -> Tensor:
        """Uniform whole numbers, int64, from 0 to one below each of ``counts [n,*]``, which differ by image."""
        given = self._ctx.draw(purpose, tuple(counts.shape))
        if given is not None:
            return given.cpu()
        rest = counts.shape[1:]
        places = self._ctx.drawn(
            purpose, len(counts), lambda n, generator: _places((n, *rest), generator), device="cpu"
        )
        return _scaled(places, counts)


def coins(*shape: int) -> Callable[[int, torch.Generator], Tensor]:
    """Makes ``[n,*shape]`` bools for n images, each true with probability 1/2."""
    return lambda n, generator: torch.rand((n, *shape), generator=generator) < 0.5


def below(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform whole numbers, int64, from 0 to one below each of ``counts``."""
    return _scaled(_places(counts.shape, generator), counts)


def _places(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def _scaled(places: Tensor, counts: Tensor) -> Tensor:
    return (places * counts).long()
