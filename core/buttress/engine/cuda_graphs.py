"""Run the passes of attack steps as CUDA graphs."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from buttress.engine.torch_compile import Graph, own_function
from buttress.nn.calls import ModelCall

logger = logging.getLogger("buttress")

# The shape of training's batches, and that of evaluations'.
_MOST_SHAPES = 2


class GraphedPasses:
    """Forwards and input backwards of attack steps as CUDA graphs with static buffers.

    A graph reads weights and buffers where they lay when it was captured, so weights that are changed in place count.
    Where they lie elsewhere (the batch norm of a track), in train mode, without a gradient, and for batches of further
    shapes, the forward runs without a graph.

    Args:
        model: the model, on CUDA.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._graphs: dict[tuple[object, ...], Graph] = {}
        self._kinds: set[tuple[object, ...]] = set()
        self._newest = 0

    def call(self, forward: ModelCall, x: Tensor, *, scoring: bool) -> Tensor:
        """``forward(x)``, by a graph where it is part of an attack step.

        Args:
            forward: the model's own forward.
            x: ``[B,*]`` inputs.
            scoring: whether the forward belongs to an evaluation, which makes no difference.
        """
        graph = self._graph_for(x) if self._is_attacked(x) else None
        if graph is None:
            output: Tensor = forward(x)
            return output
        # Logits and gradients of a graph lie in static memory, which its next replay overwrites.
        entry = x.clone()
        entry.register_hook(torch.clone)  # type: ignore[no-untyped-call]
        logits = graph(entry).clone()
        self._newest += 1
        logits.register_hook(_Newest(self, self._newest))  # type: ignore[no-untyped-call]
        return logits

    def _is_attacked(self, x: Tensor) -> bool:
        wanted = torch.is_grad_enabled() and x.requires_grad and not self._model.training
        return wanted and not any(weight.requires_grad for weight in self._model.parameters())

    def _graph_for(self, x: Tensor) -> Graph | None:
        """The graph for inputs like ``x``, captured where there is none yet; None where there can be none."""
        kind = (x.shape, x.dtype, x.stride(), torch.is_autocast_enabled(x.device.type))
        key = (*kind, *(tensor.data_ptr() for tensor in (*self._model.parameters(), *self._model.buffers())))
        if key in self._graphs or kind in self._kinds:
            return self._graphs.get(key)
        self._kinds.add(kind)
        if len(self._graphs) == _MOST_SHAPES:
            logger.warning("compile: graphs: inputs of shape %s run without a graph", tuple(x.shape))
            return None
        sample = x.detach().clone().requires_grad_()
        graph: Any = torch.cuda.make_graphed_callables(own_function(self._model), (sample,))
        self._graphs[key] = graph
        return self._graphs[key]

    def expect_newest(self, number: int) -> None:
        """Expect that forward ``number`` is the newest, of which the graph still has the activations.

        Raises:
            RuntimeError: another forward came between it and its backward.
        """
        if number != self._newest:
            raise RuntimeError(
                "compile: graphs: this attack makes two forwards before the backward of the first, whose activations "
                "are overwritten by then; set compile: model, or off"
            )


class _Newest:
    """A hook on logits: they must be the newest that the graphs gave when their backward begins."""

    def __init__(self, graphs: GraphedPasses, number: int) -> None:
        self._graphs, self._number = graphs, number

    def __call__(self, grad: Tensor) -> None:
        self._graphs.expect_newest(self._number)
