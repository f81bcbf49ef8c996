"""Run the forwards of a model as two compiled graphs of one batch size: for attacks and scores, and for training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from buttress.errors import ModelError
from buttress.nn.calls import ModelCall

Graph = Callable[[Tensor], Tensor]
"""Inputs to logits, both ``[B,*]``, for one B."""

# A part of a batch that is smaller than this share of the graphs' batch size is not worth to be filled up.
_SMALLEST_SHARE = 1 / 4


class CompiledPasses:
    """Forwards of a model in two graphs of ``torch.compile``, both of the batch size that training has.

    One graph is that of attacks and scores: eval mode, weights without gradients. In eval mode examples do not depend
    on one another, so batches of other sizes are cut into parts of that size, and the last part is filled up. The
    other is that of training: live weights, with the batch size of training alone. Every other forward is not compiled:
    the incomplete last batch of an epoch in train mode, the re-estimation of batch norm, small rests of a batch, and
    other sizes where batch norm has no running statistics, so that examples depend on one another in eval mode too.

    Args:
        model: the model.
        backend: backend of ``torch.compile``.
    """

    def __init__(self, model: nn.Module, backend: str = "inductor") -> None:
        self._model = model
        self._graph: Graph = torch.compile(own_function(model), backend=backend, fullgraph=True, dynamic=False)
        self._mixes_examples = any(map(_mixes_examples, model.modules()))
        self._size: int | None = None
        self._from_training = False

    def call(self, forward: ModelCall, x: Tensor, *, scoring: bool) -> Tensor:
        """``forward(x)``, compiled where it is one of the two kinds.

        Args:
            forward: the model's own forward.
            x: ``[B,*]`` inputs.
            scoring: whether the forward belongs to an evaluation, whose batch size is not that of training.

        Raises:
            ModelError: the model does not compile.
        """
        if self._size is None or (not scoring and not self._from_training):
            self._size, self._from_training = len(x), not scoring
        live = any(weight.requires_grad for weight in self._model.parameters())
        if not self._model.training and not live:
            return self._attacked(forward, x)
        if self._model.training and torch.is_grad_enabled() and len(x) == self._size:
            return self._whole(forward, x)
        output: Tensor = forward(x)
        return output

    def _whole(self, forward: ModelCall, x: Tensor) -> Tensor:
        """``forward(x)`` of a batch of the graphs' size."""
        return _compiled(self._graph, forward, self._model, x)

    def _attacked(self, forward: ModelCall, x: Tensor) -> Tensor:
        """``forward(x)`` in eval mode, in parts of the graphs' size."""
        if self._mixes_examples and len(x) != self._size:
            output: Tensor = forward(x)
            return output
        wanted = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():  # a score runs the graph of attacks, and forgets the gradient
            given = x if wanted else x.detach().requires_grad_()
            if len(x) == self._size:  # as it is: torch looks at a view in another way
                logits = self._whole(forward, given)
            else:
                logits = torch.cat([self._part(forward, part) for part in torch.split(given, self._size or len(x))])
        return logits if wanted else logits.detach()

    def _part(self, forward: ModelCall, x: Tensor) -> Tensor:
        size = self._size or len(x)
        if len(x) == size:
            return self._whole(forward, x)
        if len(x) < _SMALLEST_SHARE * size:
            output: Tensor = forward(x)
            return output
        filled = torch.cat([x, x[:1].detach().expand(size - len(x), *x.shape[1:])])
        return self._whole(forward, filled)[: len(x)]


def _mixes_examples(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm that measures every batch, in eval mode too."""
    return isinstance(module, _BatchNorm) and module.running_mean is None


def _compiled(graph: Graph, forward: ModelCall, model: nn.Module, x: Tensor) -> Tensor:
    """``graph(x)``, with one error where the model does not compile, and its own error where it cannot take ``x``."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The .grad attribute")  # of torch about x, where it is no leaf
            return graph(x)
    except (TorchDynamoException, InductorError) as problem:
        with torch.no_grad():
            forward(x)
        raise ModelError(
            f"model {type(model).__name__} does not compile: {_reason(problem)}; set compile: off, or take "
            "what torch names out of its forward"
        ) from problem


def _reason(problem: Exception) -> str:
    """The first line of an error of torch, and the explanation that may follow."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    explained = [line for line in lines[1:2] if line.startswith("Explanation:")]
    return " ".join([type(problem).__name__ + ":", *lines[:1], *explained]).rstrip(".")


def own_function(model: nn.Module) -> Graph:
    """A function that calls the forward of ``model``, with code of its own.

    ``torch.compile`` counts graphs by code: with shared code, the engines of one process would use up one limit.
    """

    def passes(x: Tensor) -> Tensor:
        output: Tensor = model._call_impl(x)  # type: ignore[no-untyped-call]
        return output

    code = passes.__code__.replace(co_name=f"passes_of_{type(model).__name__}")
    return FunctionType(code, passes.__globals__, closure=passes.__closure__)
