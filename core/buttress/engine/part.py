"""The part of a step's batch that this rank has, and the sums and gradients over the parts of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from buttress.engine.gradients import gradients
from buttress.engine.world import World
from buttress.types import Rows


@dataclass(frozen=True)
class StepPart:
    """The rows of a batch that this rank has.

    Where every rank has the whole batch, as between steps and in one process, nothing is summed.

    Args:
        world: ranks of the run.
        rows: rows of this rank; None where it has all.
    """

    world: World
    rows: Rows | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this rank has all rows."""
        return self.rows is None or self.rows.whole

    @property
    def share(self) -> float:
        """Share of the rows that this rank has."""
        return 1.0 if self.rows is None else self.rows.share

    def sum(self, values: Tensor, purpose: str) -> Tensor:
        """The sum of ``values``, each rank's own over its rows."""
        return values if self.is_whole else self.world.sum(values, purpose)

    def mean(self, values: Tensor, purpose: str) -> Tensor:
        """The mean ``[*]`` of ``values [B,*]`` over the rows of all ranks."""
        return values.mean(0) if self.is_whole else self.world.sum(values.mean(0) * self.share, purpose)

    def mean_(self, tensors: Sequence[Tensor], purpose: str) -> None:
        """Give ``tensors``, which each rank has computed from its rows, their mean over the rows of all, in place."""
        if not self.is_whole:
            self.world.mean_(tensors, purpose, self.share)

    def gradients(
        self,
        loss: Tensor,
        params: Sequence[Tensor],
        purpose: str,
        *,
        inputs: Sequence[Tensor] = (),
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the mean over all rows, of which ``loss`` (0-dim) is the mean over this rank's rows.

        Args:
            loss: 0-dim loss.
            params: weights; their gradients are summed over the ranks.
            purpose: purpose of the sum, for the record of collectives.
            inputs: tensors of this rank alone; their gradients come after those of the weights, and stay its own.
            retain_graph: as in ``torch.autograd.grad``.
            create_graph: as in ``torch.autograd.grad``.

        Returns:
            One gradient each, in memory of its own; None where nothing flows.
        """
        wanted = [*params, *inputs]
        if self.is_whole:
            return gradients(loss, wanted, retain_graph=retain_graph, create_graph=create_graph)
        grads = gradients(loss * self.share, wanted, retain_graph=retain_graph, create_graph=create_graph)
        own, rest = grads[: len(params)], grads[len(params) :]
        present = [grad for grad in own if grad is not None]
        if not create_graph:
            self.world.sum_(present, purpose)
            return grads
        sums = iter([self.world.sum(grad, purpose) for grad in present])
        return (*(None if grad is None else next(sums) for grad in own), *rest)
