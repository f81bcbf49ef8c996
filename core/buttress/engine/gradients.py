"""Gradients of weights on one rank: dense, and each in memory of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from buttress.errors import ModelError


def gradients(
    loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool | None = None, create_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Gradients of ``loss`` (0-dim) with respect to ``params``, each in its own memory; None where nothing flows.

    Where the model recomputes activations (``torch.utils.checkpoint``) its forward runs again in here. Sums over the
    ranks are made in ``part.py``.

    Args:
        loss: 0-dim loss.
        params: tensors on which it depends.
        retain_graph: whether the graph of ``loss`` stays for another gradient; None: as ``create_graph``.
        create_graph: whether the gradients have a graph of their own.

    Raises:
        ModelError: a gradient is sparse.
    """
    return _unaliased(
        torch.autograd.grad(loss, params, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True)
    )


def _unaliased(grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """``grads``, copied where they share memory, so that each may be changed in place.

    Autograd gives one tensor to parameters that are added to one another, and one number, expanded, to a parameter
    that is summed.
    """
    taken: set[int] = set()
    unaliased = []
    for grad in grads:
        if grad is not None and grad.layout is not torch.strided:
            raise ModelError(
                f"expected dense gradients, got one of layout {grad.layout} for a parameter {tuple(grad.shape)}; make "
                "an embedding with sparse=False"
            )
        if grad is not None and grad.numel() > 0:
            memory = grad.untyped_storage().data_ptr()
            if memory in taken or 0 in grad.stride():
                grad = grad.clone(memory_format=torch.contiguous_format)
            taken.add(memory)
        unaliased.append(grad)
    return tuple(unaliased)
