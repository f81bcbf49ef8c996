"""Count the forwards and backwards through a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from buttress.nn.calls import calls_seen

PassKind = Literal["forwards", "input_backwards", "weight_backwards"]


@dataclass
class Passes:
    """Numbers of forwards and backwards."""

    forwards: int = 0
    input_backwards: int = 0
    weight_backwards: int = 0

    def __sub__(self, earlier: Passes) -> Passes:
        return Passes(
            self.forwards - earlier.forwards,
            self.input_backwards - earlier.input_backwards,
            self.weight_backwards - earlier.weight_backwards,
        )


@dataclass
class PassCounter:
    """Counts passes. A backward is one to the input where no weight requires a gradient.

    Args:
        passes: numbers of passes.
        examples: numbers of examples in them.
    """

    passes: Passes = field(default_factory=Passes)
    examples: Passes = field(default_factory=Passes)

    def count(self, output: object, *, to_weights: bool) -> None:
        """Count a forward that gave ``output``, and every backward through that.

        Args:
            output: ``[B,*]``, or something else, of which only the forward is counted.
            to_weights: whether some weight requires a gradient.
        """
        size = len(output) if isinstance(output, Tensor) and output.dim() else 0
        self._add("forwards", size)
        if isinstance(output, Tensor) and output.requires_grad:
            kind: PassKind = "weight_backwards" if to_weights else "input_backwards"
            output.register_hook(lambda _: self._add(kind, size))  # type: ignore[no-untyped-call]

    def _add(self, kind: PassKind, size: int) -> None:
        setattr(self.passes, kind, getattr(self.passes, kind) + 1)
        setattr(self.examples, kind, getattr(self.examples, kind) + size)


@contextmanager
def counted(model: nn.Module) -> Iterator[PassCounter]:
    """Count the passes through ``model`` in the block."""
    counter = PassCounter()

    def see(_: object, output: object) -> None:
        counter.count(output, to_weights=any(parameter.requires_grad for parameter in model.parameters()))

    with calls_seen(model, see):
        yield counter
