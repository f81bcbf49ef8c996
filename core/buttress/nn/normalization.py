"""Normalisation as a model's first layer, so that eps stays in units of the raw input."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel of ``x [B,C,H,W]``, both rounded once, to the dtype that the module has.

    Args:
        mean: one value a channel.
        std: one value a channel, not zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._values = {"mean": [float(value) for value in mean], "std": [float(value) for value in std]}
        for name, values in self._values.items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``double()`` and ``to()`` call. A new dtype rounds the values themselves, not what an old one left."""
        before = self.mean.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.mean.dtype != before:
            for name, values in self._values.items():
                rounded = torch.tensor(values, dtype=self.mean.dtype, device=self.mean.device)
                setattr(self, name, rounded.view(-1, 1, 1))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalization(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> nn.Module:
    """``Normalize``, or the identity where neither ``mean`` nor ``std`` is given.

    Raises:
        ValueError: only one of them, or not one value a channel.
    """
    if mean is None and std is None:
        return nn.Identity()
    if mean is None or std is None or len(mean) != len(std):
        raise ValueError("mean and std: expected both, one value a channel, or neither")
    if len(mean) != channels:
        raise ValueError(f"mean: expected {channels} values, one a channel, got {len(mean)}")
    return Normalize(mean, std)


def normalized(model: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> nn.Module:
    """``model`` itself, made to normalise its input first.

    The names of its parameters and buffers stay those of its library, so that weights load there and here alike.

    Args:
        model: any network of images ``[B,C,H,W]``.
        mean: one value a channel, or None for no normalisation.
        std: likewise.
        channels: C.

    Raises:
        ValueError: see ``normalization``; or the model has an attribute ``normalize`` of its own.
    """
    if mean is None and std is None:
        return model
    if hasattr(model, "normalize"):
        raise ValueError(f"mean and std: {type(model).__name__} has an attribute normalize of its own; leave them out")
    model.normalize = normalization(mean, std, channels)
    model.register_forward_pre_hook(_normalize_input)
    return model


def _normalize_input(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook. It finds the layer by name, so that a copy of the model uses the copy's own."""
    return (model.get_submodule("normalize")(inputs[0]), *inputs[1:])
