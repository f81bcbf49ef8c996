"""Measure batch-norm statistics afresh, for weights that no training step ever produced."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from buttress.errors import DataError

Merge = Callable[[Sequence[_NormBase], int], None]
"""Gives norm layers the statistics over all processes, of which this one has measured some number of examples."""


def tracked_norms(model: nn.Module) -> list[_NormBase]:
    """The norm layers of ``model`` that keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _NormBase) and module.track_running_stats and module.running_mean is not None
    ]


@torch.no_grad()
def reestimate(model: nn.Module, inputs: Iterable[Tensor], merge: Merge | None = None) -> None:
    """Reset the running statistics of ``model`` and average them over ``inputs``, batches ``[B,*]``.

    Batches are weighted by their sizes (momentum ``b / (n + b)``, as in SWA). Only norm layers are in train mode;
    dropout and every other module stay in eval. Norm layers that the user has frozen (in eval mode inside a model in
    train mode) keep their statistics. A model without norm layers is left alone and ``inputs`` unread.

    Args:
        model: model in whose norm layers the statistics are.
        inputs: batches ``[B,*]``.
        merge: merges the statistics of several processes, each of which has some of the batches, or none.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", section 3.2.

    Raises:
        DataError: ``inputs`` is empty; the statistics stay as they are.
    """
    norms = [norm for norm in tracked_norms(model) if norm.training or not model.training]
    if not norms:
        return
    batches = iter(inputs)
    first = next(batches, None)
    if first is None and merge is None:
        raise DataError("batch-norm re-estimation: expected at least one batch of inputs, got none")
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        for module, _ in modes:
            module.training = False
        for norm in norms:
            norm.training = True
            norm.reset_running_stats()
        seen = 0
        for x in chain([] if first is None else [first], batches):
            seen += len(x)
            for norm in norms:
                norm.momentum = len(x) / seen
            model(x)
        if merge is not None:
            merge(norms, seen)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
