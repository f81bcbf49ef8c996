"""See the calls of a model from outside: the input and the output of each, without a hook on the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# The attribute that holds the forward of a compiled module. ``nn.Module`` calls it in the place of its own forward.
_COMPILED = "_compiled_call_impl"


ModelCall = Callable[..., Any]
"""A call of a model: ``call(x)`` gives its output."""


@contextmanager
def calls_replaced(model: nn.Module, replacement: Callable[[ModelCall], ModelCall]) -> Iterator[None]:
    """Let every call ``model(x)`` of the block be one of ``replacement(forward)``, with the model's own forward.

    It takes the place of a compiled forward. A forward hook would be traced by ``torch.compile``, which compiles the
    model again for it, or fails; and a copy of the model would keep the hook.
    """
    attributes = model.__dict__
    compiled: ModelCall | None = attributes.get(_COMPILED)
    attributes[_COMPILED] = replacement(compiled or model._call_impl)
    try:
        yield
    finally:
        if compiled is None:
            attributes.pop(_COMPILED, None)
        else:
            attributes[_COMPILED] = compiled


@contextmanager
def calls_seen(model: nn.Module, see: Callable[[object, object], None]) -> Iterator[None]:
    """Call ``see(x, output)`` after every call ``model(x)`` of the block."""

    def seen_by(forward: ModelCall) -> ModelCall:
        def seen(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            see(args[0] if args else next(iter(kwargs.values()), None), output)
            return output

        return seen

    with calls_replaced(model, seen_by):
        yield


class Outputs:
    """The last output with a graph that a model gave for each of ``inputs``, which are told apart by identity.

    The outputs for other inputs are not kept, because each would keep its graph: those of an attack within a loss.
    """

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._inputs = tuple(inputs)
        self._outputs: dict[int, Tensor] = {}

    def see(self, x: object, output: object) -> None:
        """Keep ``output`` if it is one to keep."""
        if isinstance(output, Tensor) and output.requires_grad and any(x is each for each in self._inputs):
            self._outputs[id(x)] = output

    def of(self, x: Tensor) -> Tensor | None:
        """The output for ``x`` itself, or None where there was none."""
        return self._outputs.get(id(x))
