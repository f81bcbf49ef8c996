"""Make a forward of many rows in parts, one after another, each of them once more in the backward.

What a part keeps for its backward is dropped right after its forward and computed again when its gradient is due
(``torch.utils.checkpoint``), so that the memory for activations is that of one part, whatever is done with the outputs.
Every caller sees the outputs of all rows. Nothing but batch norm in train mode can tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from buttress.errors import ModelError
from buttress.nn.modes import Modes

Forward = Callable[[Tensor], object]


class InParts:
    """Makes forwards of ``model`` in parts.

    Part i of n has every n-th row from row i on, as the i-th of n processes has. Batch norm in train mode normalises
    each part by its own statistics; the running ones move once in a forward, towards the mean over the parts.

    Args:
        model: model of the forwards.
        modes: modes of its modules.
    """

    def __init__(self, model: nn.Module, modes: Modes) -> None:
        self._model, self._modes = model, modes
        self._weights = tuple(model.parameters())

    def __call__(self, forward: Forward, x: Tensor, count: int) -> Tensor:
        """The output ``[B,*]`` of ``forward`` for ``x [B,*]``, made in ``count`` parts.

        Raises:
            ModelError: the output is no tensor with a row for each of x, or the forward moves a buffer that is not
                batch norm's; or, in the backward, weights or buffers are no longer those of the forward.
        """
        places = [torch.arange(len(x), device=x.device)[number::count] for number in range(count)]
        outputs, statistics = [], _Statistics(self._modes.tracking(), len(x))
        for number, rows in enumerate(places):
            with statistics.of_part(len(rows)), self._expecting_no_moves():
                outputs.append(self._made(forward, x[number::count], len(rows)))
        statistics.join()
        return torch.cat(outputs).index_select(0, torch.cat(places).argsort())

    def _made(self, forward: Forward, x: Tensor, rows: int) -> Tensor:
        if torch.is_grad_enabled():
            again = _Reopened(self._as_now())
            output = checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), again))
        else:
            output = forward(x)
        if not isinstance(output, Tensor) or not output.dim() or len(output) != rows:
            form = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(
                f"accumulate: expected that model {type(self._model).__name__} gives an output for each row, "
                f"[{rows},*] for a part of {rows} rows, got {form}"
            )
        return output

    def _as_now(self) -> Callable[[], AbstractContextManager[None]]:
        """A function that opens a block in which a forward is made as it would be now, and moves no buffer."""
        in_modes = self._modes.of_now()
        read = [(each, each._version) for each in (*self._weights, *self._modes.read_buffers().values())]

        @contextmanager
        def again() -> Iterator[None]:
            if any(each._version != version for each, version in read):
                raise ModelError(
                    "accumulate: weights or buffers were written into between a forward and its backward, which makes "
                    "the forward again; take the gradient first"
                )
            with in_modes():
                yield

        return again

    @contextmanager
    def _expecting_no_moves(self) -> Iterator[None]:
        before = {name: (buffer, buffer._version) for name, buffer in self._modes.read_buffers().items()}
        yield
        for name, buffer in self._modes.read_buffers().items():
            if before.get(name) is None or before[name][0] is not buffer or before[name][1] != buffer._version:
                raise ModelError(
                    f"accumulate: a forward of model {type(self._model).__name__} moves its buffer {name!r}, and would "
                    "move it once for each part; leave accumulate out, or freeze that module by .eval()"
                )


class _Reopened(AbstractContextManager[None]):
    """A block that may be opened again and again, as where two gradients of one output are taken."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make, self._open = make, list[AbstractContextManager[None]]()

    def __enter__(self) -> None:
        block = self._make()
        block.__enter__()
        self._open.append(block)

    def __exit__(self, *raised: Any) -> bool | None:
        return self._open.pop().__exit__(*raised)


class _Statistics:
    """The running statistics of norms in a forward that is made in parts.

    Args:
        norms: norms in train mode that keep running statistics.
        total: number of rows of all parts.
    """

    def __init__(self, norms: Sequence[_NormBase], total: int) -> None:
        self._norms, self._total = norms, total
        self._sums: list[dict[str, Tensor]] = [{} for _ in norms]

    @contextmanager
    def of_part(self, rows: int) -> Iterator[None]:
        """Let the block, with the forward of a part, begin at the statistics of before the first part."""
        # Copies, and not the buffers themselves: autograd would refuse what is written into between two parts.
        own = [dict(norm._buffers) for norm in self._norms]
        try:
            for norm in self._norms:
                norm._buffers.update({name: each.clone() for name, each in norm._buffers.items() if each is not None})
            yield
            self._add(rows / self._total)
        finally:
            for norm, buffers in zip(self._norms, own, strict=True):
                norm._buffers.update(buffers)

    def _add(self, share: float) -> None:
        for norm, sums in zip(self._norms, self._sums, strict=True):
            for name, value in norm._buffers.items():
                if value is None:
                    continue
                moved = value.detach()
                if not moved.is_floating_point():  # a number of batches, alike in all parts
                    sums[name] = moved
                else:
                    sums[name] = sums[name] + share * moved if name in sums else share * moved

    @torch.no_grad()
    def join(self) -> None:
        """Give the norms the mean over the parts."""
        for norm, sums in zip(self._norms, self._sums, strict=True):
            for name, value in sums.items():
                buffer = norm._buffers[name]
                assert buffer is not None
                buffer.copy_(value)
