"""See the calls of a model from outside: the input and the output of each, without a hook on the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# The attribute that holds the forward of a compiled module. ``nn.Module`` calls it in the place of its own forward.
_COMPILED = "_compiled_call_impl"


@contextmanager
def calls_seen(model: nn.Module, see: Callable[[object, object], None]) -> Iterator[None]:
    """Call ``see(x, output)`` after every call ``model(x)`` of the block.

    ``see`` takes the place of a compiled forward and calls the model's own one. A forward hook would be traced by
    ``torch.compile``, which compiles the model again for it, or fails; and a copy of the model would keep the hook.
    """
    attributes = model.__dict__
    compiled: Callable[..., Any] | None = attributes.get(_COMPILED)
    forward = compiled or model._call_impl

    def seen(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        see(args[0] if args else next(iter(kwargs.values()), None), output)
        return output

    attributes[_COMPILED] = seen
    try:
        yield
    finally:
        if compiled is None:
            attributes.pop(_COMPILED, None)
        else:
            attributes[_COMPILED] = compiled


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
