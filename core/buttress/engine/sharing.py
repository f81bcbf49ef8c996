"""The services of the core by which a plugin's numbers are those of all processes, whichever rows each has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from buttress.engine.run_view import RunView


class Sharing(RunView):
    """The part of a context that concerns several processes, which train one model together."""

    @property
    def rank(self) -> int:
        """Number of this process among those that train the model together, from 0."""
        return self._state.world.rank

    @property
    def world_size(self) -> int:
        """Number of processes that train the model together."""
        return self._state.world.size

    def size(self, values: Tensor) -> int:
        """Number of rows of the whole batch, of which this process has ``values [B,*]``."""
        rows = self._state.part.rows
        return len(values) if rows is None else rows.blocks * rows.total

    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values [*]`` over the examples of a step, of which each process has a part; with a graph.

        ``values`` is a sum over the rows of this process, for example a number of examples; a bool counts as 0 or 1.
        In one process, and between steps, where all processes have the same, it comes back as it is. All processes
        have to make the call, or none.
        """
        return self._state.part.sum(values, "ctx.sum")

    def mean(self, values: Tensor) -> Tensor:
        """The mean ``[*]`` of ``values [B,*]`` over the examples of a step, of which each process has a part.

        It has a graph, where they have one. All processes have to make the call, or none.
        """
        return self._state.part.mean(values, "ctx.mean")

    def whole(self, values: Tensor) -> Tensor:
        """``values [B,*]`` of the whole batch of a step, of which each process has a part; without a graph."""
        rows = self._state.part.rows
        return values if rows is None else self._state.world.rows_of_all(values, rows, "ctx.whole")

    def rows(self, values: Tensor) -> Tensor:
        """The rows that this process has of ``values [B,*]``, which are those of the whole batch of a step."""
        rows = self._state.part.rows
        return values if rows is None else rows.of(values)

    def shared_out(
        self, like: Mapping[str, Tensor], compute: Callable[[Collection[str]], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Tensors by name, of which each process computes some, and all get all; for work between steps.

        Args:
            like: tensors of the shapes, dtypes and devices of the results, by name.
            compute: computes the tensors of some of these names; in one process it is asked for all at once.
        """
        return self._state.world.shared_out(like, compute, "ctx.shared_out")
