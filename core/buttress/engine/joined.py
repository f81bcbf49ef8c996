"""Prepare a model for the ranks of a run: the same weights on all, and the batch norm that the caller has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from buttress.engine.part import StepPart
from buttress.engine.state import RunState
from buttress.errors import ModelError
from buttress.nn.as_found import can_be_written
from buttress.nn.batchnorm import tracked_norms
from buttress.nn.synced_batchnorm import is_synced, sync_batch_norm, unsynced

BatchNorm = Literal["local", "sync"]


class LocalBuffers:
    """The buffers that each rank moves by its own rows, and that all are to have alike after a step.

    Running statistics of norm layers in train mode become their mean over the rows of all ranks. Other buffers that a
    step has moved, about which nothing is known, become those of the main rank.

    Args:
        model: model of the run.
        norms: norm layers whose statistics each rank takes from its own rows.
    """

    def __init__(self, model: nn.Module, norms: Sequence[_NormBase]) -> None:
        self._model, self._norms = model, norms
        self._versions: dict[str, tuple[Tensor, int]] = {}

    def begin(self) -> None:
        """Remember which buffers there are, before the forwards of a step."""
        self._versions = {name: (buffer, buffer._version) for name, buffer in self._others().items()}

    def join(self, part: StepPart) -> None:
        """Give all ranks the same buffers, after the forwards of a step; nothing where each had the whole batch."""
        if part.is_whole:
            return
        in_training = (norm for norm in self._norms if norm.training)  # a frozen one keeps its statistics bit for bit
        statistics = (each for norm in in_training for each in (norm.running_mean, norm.running_var))
        part.mean_([each for each in statistics if isinstance(each, Tensor)], "batch norm")
        moved = [buffer for name, buffer in self._others().items() if self._moved(name, buffer)]
        part.world.from_main_(moved, "buffers")

    def _others(self) -> dict[str, Tensor]:
        """The buffers of modules that are no norm layers, by name."""
        modules = ((name, module) for name, module in self._model.named_modules() if not isinstance(module, _NormBase))
        return {
            f"{prefix}.{name}": buffer
            for prefix, module in modules
            for name, buffer in module.named_buffers(recurse=False)
            if can_be_written(buffer)
        }

    def _moved(self, name: str, buffer: Tensor) -> bool:
        before, version = self._versions.get(name, (None, 0))
        return before is not buffer or version != buffer._version


def joined(model: nn.Module, state: RunState, batch_norm: BatchNorm) -> LocalBuffers | None:
    """Give ``model`` the weights and buffers that it has on the main rank, and its batch norm.

    Args:
        model: changed in place.
        state: state of the run, with its ranks.
        batch_norm: ``local`` or ``sync``, as in ``Engine``.

    Returns:
        The buffers that each rank moves by its own rows; None for one process.

    Raises:
        ModelError: the model is a wrapper of torch for several processes, which has collectives of its own; or it has a
            batch norm that cannot take the statistics of all ranks, and is asked to.
    """
    world = state.world
    if world.size == 1:
        return None
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise ModelError(
            f"engine: expected the model itself, got it wrapped in {type(model).__name__}, which most gradients of a "
            "step would pass by; give model.module: the engine sums gradients over the processes"
        )
    world.from_main_([*model.parameters(), *model.buffers()], "weights")
    if batch_norm == "sync":
        if own := unsynced(model):
            name, module = own
            raise ModelError(
                f"engine: batch_norm: sync: the module {name!r} is a {type(module).__name__}, a batch norm with a "
                "forward of its own, whose statistics would be those of each process's rows; use nn.BatchNorm, or "
                "batch_norm: local"
            )
        sync_batch_norm(model, lambda: state.part.is_whole, lambda values: state.part.sum(values, "batch norm"))
    return LocalBuffers(model, [norm for norm in tracked_norms(model) if not is_synced(norm)])
