"""Restore a model bit for bit where a block raises: its objects, their memory, and the values in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from buttress.nn.scratch import Scratch, copy_

# The dictionaries of a module by which others hang on it.
_REGISTRIES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class AsFound:
    """A record of the modules, parameters, gradients and buffers of ``model``, made now.

    Every later exchange can be undone: a module or a parameter that was replaced, removed or added, a hook on a module,
    a mode, a parameter's dtype, shape or memory (``model.bfloat16()``), ``requires_grad``, ``.grad``.

    Args:
        model: model to record, which takes a microsecond for each module and parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [_ModuleAsFound(module) for module in model.modules()]
        parameters, buffers = ([each.hanging.get(name, {}) for each in self._modules] for name in _REGISTRIES[:2])
        self._parameters = [_ParameterAsFound(each) for each in _once(parameters)]
        self._buffers = [(each, each.data) for each in _once(buffers)]

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Restore all objects where the block raises; the values in memory stay as they are by then."""
        try:
            yield
        except BaseException:
            self._put_back()
            raise

    @contextmanager
    def values_kept_on_error(self, weights: Scratch | None, buffers: Scratch) -> Iterator[list[Tensor]]:
        """Restore the values of parameters and buffers, in their recorded memory, where the block raises.

        Gives copies of the parameters' values. The copies lie in the memory of ``weights`` and ``buffers``. With None
        for ``weights`` those of the parameters are neither copied nor restored.
        """
        saved, put_back = self._values(weights, buffers)
        try:
            yield saved
        except BaseException:
            put_back()
            raise

    @contextmanager
    def values_kept(self, weights: Scratch | None, buffers: Scratch) -> Iterator[list[Tensor]]:
        """Like ``values_kept_on_error``, but restore the values also where the block does not raise."""
        saved, put_back = self._values(weights, buffers)
        try:
            yield saved
        finally:
            put_back()

    def _values(self, weights: Scratch | None, buffers: Scratch) -> tuple[list[Tensor], Callable[[], None]]:
        """Copies of the parameters' values, and a function that restores these and the buffers'."""
        places = [] if weights is None else [each.memory for each in self._parameters]
        others = [memory for _, memory in self._buffers if can_be_written(memory)]
        saved, saved_others = [] if weights is None else weights.copies(places), buffers.copies(others)

        def put_back() -> None:
            copy_(places, saved)
            copy_(others, saved_others)

        return saved, put_back

    def _put_back(self) -> None:
        for module in self._modules:
            module.put_back()
        for parameter in self._parameters:
            parameter.put_back()
        for buffer, memory in self._buffers:
            buffer.data = memory


class _ModuleAsFound:
    """A module's class (a parametrization changes it), its attributes, and the contents of its registries."""

    __slots__ = ("_attributes", "_kind", "_module", "hanging")

    def __init__(self, module: nn.Module) -> None:
        attributes = module.__dict__
        self._module, self._kind, self._attributes = module, module.__class__, attributes.copy()
        self.hanging = {name: _copied(content) for name in _REGISTRIES if (content := attributes[name])}

    def put_back(self) -> None:
        if self._module.__class__ is not self._kind:
            self._module.__class__ = self._kind
        attributes = self._module.__dict__
        attributes.clear()
        attributes.update(self._attributes)
        for name in _REGISTRIES:
            if isinstance(attributes[name], dict):
                attributes[name].clear()
                attributes[name].update(self.hanging.get(name, ()))


class _ParameterAsFound:
    """A parameter's memory, ``requires_grad`` and ``.grad``."""

    __slots__ = ("_grad", "_grad_memory", "_parameter", "_required", "memory")

    def __init__(self, parameter: Tensor) -> None:
        self._parameter, self.memory, self._required = parameter, parameter.data, parameter.requires_grad
        self._grad = grad = parameter.grad
        self._grad_memory = None if grad is None else grad.data

    def put_back(self) -> None:
        parameter = self._parameter
        if not parameter.is_leaf:  # a plugin computed into it
            parameter.detach_()
        parameter.grad = None  # torch refuses one of another dtype or shape
        parameter.data = self.memory
        parameter.requires_grad = self._required
        if self._grad is not None and self._grad_memory is not None:
            self._grad.data = self._grad_memory
            parameter.grad = self._grad


def _copied(registry: Any) -> dict[str, Any]:
    """A copy of a registry; a scripted module has registries of its own kind, whose contents cannot be exchanged."""
    return registry.copy() if isinstance(registry, dict) else dict(registry.items())


def _once(registries: Iterable[dict[str, Tensor | None]]) -> list[Tensor]:
    """The tensors in ``registries``; tied ones once."""
    tensors = {id(each): each for registry in registries for each in registry.values() if each is not None}
    return list(tensors.values())


def can_be_written(tensor: Tensor) -> bool:
    """Whether every element has memory of its own, unlike in a tensor that was expanded or is sparse."""
    return tensor.layout is torch.strided and (tensor.numel() == 0 or 0 not in tensor.stride())


@torch.no_grad()
def put_values_back(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """``places_j = values_j`` bit for bit, where both are still of one dtype, shape and device."""
    fitting = [
        (place, value)
        for place, value in zip(places, values, strict=True)
        if (place.dtype, place.shape, place.device) == (value.dtype, value.shape, value.device)
    ]
    copy_([place for place, _ in fitting], [value for _, value in fitting])
