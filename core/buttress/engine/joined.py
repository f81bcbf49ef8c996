"""Prepare a model for the ranks of a run: the same weights on all, and the batch norm that the caller has chosen."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from buttress.engine.state import RunState
from buttress.errors import ModelError
from buttress.nn.batchnorm import tracked_norms
from buttress.nn.synced_batchnorm import sync_batch_norm

BatchNorm = Literal["local", "sync"]


def joined(model: nn.Module, state: RunState, batch_norm: BatchNorm) -> list[Tensor]:
    """Give ``model`` the weights and buffers that it has on the main rank, and its batch norm.

    Args:
        model: changed in place.
        state: state of the run, with its ranks.
        batch_norm: ``local`` or ``sync``, as in ``Engine``.

    Returns:
        The buffers that each rank moves by its own rows, of which all are to get the mean.

    Raises:
        ModelError: the model is a wrapper of torch for several processes, which has collectives of its own.
    """
    world = state.world
    if world.size == 1:
        return []
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise ModelError(
            f"engine: expected the model itself, got it wrapped in {type(model).__name__}, which most gradients of a "
            "step would pass by; give model.module: the engine sums gradients over the processes"
        )
    world.from_main_([*model.parameters(), *model.buffers()], "weights")
    if batch_norm == "sync":
        sync_batch_norm(model, lambda: state.part.is_whole, lambda values: state.part.sum(values, "batch norm"))
        return []
    statistics = (buffer for norm in tracked_norms(model) for buffer in (norm.running_mean, norm.running_var))
    return [buffer for buffer in statistics if isinstance(buffer, Tensor)]
