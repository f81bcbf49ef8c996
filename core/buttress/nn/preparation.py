"""Prepare any module for training: fix the shapes of lazy parameters, set training mode, move to the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from buttress.errors import InputError, ModelError, describe


def prepared(
    model: nn.Module,
    x: Tensor,
    device: torch.device,
    memory_format: torch.memory_format,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """``model`` in training mode, on ``device``, with the shapes of its lazy parameters taken from ``x [b,*]``.

    Where a ``dtype`` is given, its parameters get that. The first values of lazy parameters are drawn from the CPU's
    global generator, as those of other layers are.

    Raises:
        ModelError: the model has no parameters, cannot be moved, or cannot take ``x``.
    """
    with _its_own_fault(model):
        if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
            model.eval()  # so that statistics keep their first values
            given = x.cpu() if dtype is None else x.cpu().to(torch.get_default_dtype())  # the model gets dtype later
            with torch.no_grad():
                model(given)
        if next(model.parameters(), None) is None:
            raise ModelError(f"model {type(model).__name__} has no parameters: there is nothing to train")
        model.train()
        moved = model.to(device, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
    return moved if isinstance(moved, nn.Module) else model  # a method ``to`` of its own may return nothing


@contextmanager
def _its_own_fault(model: nn.Module) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as problem:  # its own methods may raise anything
        raise ModelError(
            f"model {type(model).__name__} cannot be made ready for training: {describe(problem)}"
        ) from problem
