"""The random draws of a plugin: from streams of its own, the same for any number of processes, or injected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from buttress.engine.run_view import RunView
from buttress.errors import DataError
from buttress.nn.contract import form_of
from buttress.streams import NoiseKind, Span, noise
from buttress.types import Rows


class Drawing(RunView):
    """The part of a context that makes random draws."""

    plugin: str

    def drawn(
        self,
        purpose: str,
        count: int,
        draw: Callable[[int, torch.Generator], Tensor],
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Random numbers for ``count`` rows of the batch, which do not depend on the number of processes.

        Args:
            purpose: purpose of the draws, which names the stream.
            count: number of rows of the batch here, or that number times the blocks to which a transform has made it.
            draw: makes ``[n,*]`` random numbers for n rows from a generator; it is asked for those of the whole batch,
                of which the rows of this process are kept.
            device: device of the generator, by default that of the model.

        Raises:
            ValueError: the batch has another number of rows here.
        """
        part = self._state.part.rows
        if part is None or part.whole:
            return draw(count, self.generator(purpose, device=device))
        rows = _in_blocks(part, count)
        if rows is None:
            raise ValueError(f"ctx.drawn({purpose!r}): expected the {part.count} rows of the batch, got {count}")
        return rows.of(draw(rows.blocks * rows.total, self.generator(purpose, device=device, shared=True)))

    def noise(self, purpose: str, like: Tensor, kind: NoiseKind = "uniform") -> Tensor:
        """Random numbers like ``like [B,*]``, which do not depend on the number of processes.

        Args:
            purpose: purpose of the draws, which names the stream; a second call in a step continues it.
            like: tensor whose shape, dtype and device they have.
            kind: ``uniform`` in [0, 1), or ``normal`` with mean 0 and deviation 1.
        """
        return self.drawn(
            purpose, len(like), lambda n, generator: noise(like.new_empty(n, *like.shape[1:]), generator, kind)
        )

    def generator(
        self,
        purpose: str,
        per: Span = "step",
        device: torch.device | str | None = None,
        *,
        shared: bool = False,
    ) -> torch.Generator:
        """A random stream of this plugin's own, fixed by (seed, plugin, purpose, epoch, step) and the process.

        Where the processes have rows of one batch each, their streams differ; elsewhere all make the same draws.

        Asking twice within a step continues the stream. Nothing else in the run can move it, and it moves nothing else.

        Args:
            purpose: purpose of the draws, which names the stream.
            per: ``step`` gives every step other draws. With ``epoch`` every step of an epoch begins the stream at the
                same place, with ``run`` every step of the run, so that one draw can serve all of them.
            device: device of the generator, by default that of the model.
            shared: whether all processes have the same stream, also where each has its own rows of a batch.

        Raises:
            ValueError: ``per`` is none of these words.
        """
        if per not in get_args(Span):
            raise ValueError(f"ctx.generator({purpose!r}): per: expected {', '.join(get_args(Span))}, got {per!r}")
        rank = 0 if shared or self._state.part.is_whole else self._state.world.rank
        return self._state.generator(self.plugin, purpose, per, None if device is None else torch.device(device), rank)

    def draw(self, purpose: str, shape: Sequence[int]) -> Tensor | None:
        """A draw that the caller of ``engine.step(..., draws={"plugin.purpose": tensor})`` injected, or None.

        In an evaluation it is the caller of ``evaluate(..., draws=...)``. On several processes each gets its rows of
        the draw for the whole batch.

        Raises:
            DataError: it is no tensor, or has another shape.
        """
        name = f"{self.plugin}.{purpose}"
        self._state.requested_draws.add(name)
        given = self._state.draws.get(name)
        if isinstance(given, Tensor) and given.dim() and len(shape) and (part := self._state.part.rows):
            rows = _in_blocks(part, shape[0])
            if rows is not None and len(given) == rows.blocks * rows.total:
                given = rows.of(given)
        if given is None or (isinstance(given, Tensor) and given.shape == torch.Size(shape)):
            return given
        who = "evaluation" if self._state.phase == "evaluate" else "engine.step"
        form = tuple(given.shape) if isinstance(given, Tensor) else form_of(given)
        raise DataError(f"{who}: draws[{name!r}]: expected a tensor of shape {tuple(shape)}, got {form}")


def _in_blocks(rows: Rows, count: int) -> Rows | None:
    """The rows of a batch that a transform has made longer, so that ``count`` are here; None where this cannot be."""
    longer, rest = divmod(count, rows.count)
    return None if rest or not longer else replace(rows, blocks=rows.blocks * longer)
