"""Normalise the input within a model, so that eps stays in units of the raw input."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel of ``x [B,C,*]``, both rounded once, to the dtype of the module.

    Args:
        mean: one value per channel.
        std: one value per channel, not zero.
        trailing: number of dimensions after the channel: 2 for images ``[B,C,H,W]``, 0 for features ``[B,C]``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], trailing: int = 2) -> None:
        super().__init__()
        self._shape = (-1, *[1] * trailing)
        self._values = {"mean": [float(value) for value in mean], "std": [float(value) for value in std]}
        for name, values in self._values.items():
            self.register_buffer(name, torch.tensor(values).view(self._shape), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by ``double()`` and ``to()``: a new dtype rounds the exact values, not the rounded ones."""
        before = self.mean.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.mean.dtype != before:
            for name, values in self._values.items():
                rounded = torch.tensor(values, dtype=self.mean.dtype, device=self.mean.device)
                setattr(self, name, rounded.view(self._shape))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalized(model: nn.Module, mean: Sequence[float], std: Sequence[float], shape: Sequence[int]) -> nn.Module:
    """``model`` itself, made to normalise its input first.

    The names of its parameters and buffers stay those of its library, so that weights load there and here alike.

    Args:
        model: network of inputs ``[B,C,*]``.
        mean: one value per channel.
        std: one value per channel, not zero.
        shape: shape of one input, ``[C,*]``.

    Raises:
        ValueError: not one value per channel; the model has an attribute ``normalize`` of its own, or takes no hooks.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != shape[0]:
            raise ValueError(f"{name}: expected {shape[0]} values, one a channel, got {len(values)}")
    first = _first_to_run(model)
    if hasattr(first, "normalize"):
        raise ValueError(f"{type(first).__name__} has an attribute normalize of its own; leave this one out")
    if isinstance(first, torch.jit.ScriptModule):
        raise ValueError(f"{type(first).__name__} is compiled and takes no further layer; normalise before compiling")
    first.normalize = Normalize(mean, std, trailing=len(shape) - 1)
    first.register_forward_pre_hook(_normalize_input)
    return model


def _first_to_run(model: nn.Module) -> nn.Module:
    """``model``; for a ``Sequential``, which would run an added child last, its child that runs first."""
    if type(model).forward is not nn.Sequential.forward:
        return model
    children = [child for name, child in model.named_modules(remove_duplicate=False) if name]
    if not children or children.count(children[0]) > 1:
        raise ValueError("expected a Sequential whose first layer runs once; put Normalize before it in your own code")
    return _first_to_run(children[0])


def _normalize_input(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook. It finds the layer by name, so that a copy of the model uses the copy's own."""
    return (model.get_submodule("normalize")(inputs[0]), *inputs[1:])
