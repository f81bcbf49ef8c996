"""Reuse memory for the copies of weights that every step makes."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Scratch:
    """Tensors like given ones, allocated once and used again in every step.

    On the CPU a copy of the weights into fresh memory takes several times as long as one into used memory, because the
    system provides each page at the first touch. The allocators of other devices keep memory themselves.
    """

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self._like: list[tuple[torch.Size, tuple[int, ...], torch.dtype]] = []

    def like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the shapes, dtypes, devices and layouts of ``tensors``, with any values.

        They are the tensors of the last call where all these agree; its values are then overwritten.
        """
        if any(each.device.type != "cpu" for each in tensors):
            return [torch.empty_like(each, requires_grad=False) for each in tensors]
        wanted = [(each.shape, each.stride(), each.dtype) for each in tensors]
        if wanted != self._like:
            self._held.clear()  # freed before the new ones are allocated
            self._held, self._like = [torch.empty_like(each, requires_grad=False) for each in tensors], wanted
        return list(self._held)

    def free(self) -> None:
        """Give the memory back."""
        self._held, self._like = [], []

    def copies(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors as from ``like``, with the values of ``tensors``."""
        held = self.like(tensors)
        copy_(held, tensors)
        return held


@torch.no_grad()
def copy_(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """``places_j = values_j``, bit for bit."""
    if places:
        torch._foreach_copy_(list(places), list(values))
