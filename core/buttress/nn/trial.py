"""Try forwards and backwards of a module on stand-ins for its weights, in any dtype and layout; no trace stays."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from buttress.nn.modes import takes_gradients
from buttress.nn.precision import arithmetic, region
from buttress.streams import seeded_generator

Target = Literal["inputs", "weights"]


@dataclass(frozen=True)
class Trial:
    """The way in which a module is tried.

    Args:
        dtype: dtype of stand-ins and inputs.
        layout: layout of 4-dim stand-ins and inputs; None: that which they have.
        word: precision of the passes.
    """

    dtype: torch.dtype
    layout: torch.memory_format | None = None
    word: str = "float32"

    @takes_gradients
    def gradients(self, module: nn.Module, given: CallArguments, of: Target = "inputs") -> list[Tensor]:
        """Gradients of a random combination of the outputs, the same for all trials, in the module's present modes.

        Those that do not exist are left out.
        """
        parameters = {name: self._copy(each) for name, each in module.named_parameters()}
        buffers = {name: self._copy(each) for name, each in module.named_buffers()}
        args, kwargs = tuple(map(self._copy, given.args)), {key: self._copy(each) for key, each in given.kwargs.items()}
        targets = list(_learnable([*args, *kwargs.values()] if of == "inputs" else parameters.values()))
        device = next(each.device for each in [*parameters.values(), *targets])
        with _undisturbed(device), _attributes_kept(module), arithmetic(self.word, device):
            with region(self.word, device):
                output = torch.func.functional_call(module, {**parameters, **buffers}, args, kwargs)
            outputs = [each for each in _tensors(output) if each.requires_grad]
            if not outputs:
                return []
            directions = list(map(self._direction, outputs))
            grads = torch.autograd.grad(outputs, targets, directions, allow_unused=True)
        return [grad for grad in grads if grad is not None]

    def _copy(self, value: Any) -> Any:
        """A copy of a tensor, in the dtype if it is floating; anything else as it is."""
        if not isinstance(value, Tensor):
            return value
        copy = value.detach().to(self.dtype if value.is_floating_point() else value.dtype, copy=True)
        return self._laid_out(copy)

    def _laid_out(self, tensor: Tensor) -> Tensor:
        in_layout = self.layout is not None and tensor.dim() == 4
        return tensor.contiguous(memory_format=self.layout) if in_layout else tensor  # type: ignore[arg-type]

    def _direction(self, output: Tensor) -> Tensor:
        random = torch.randn(output.shape, generator=seeded_generator("cpu", "trial"), dtype=torch.float64)
        return self._laid_out(random.to(output.device, output.dtype))


@dataclass(frozen=True)
class CallArguments:
    """Arguments of a call of a module."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def noise_like(x: Tensor) -> Tensor:
    """Uniform noise in the range of ``x [B,*]``: it has no equal values, among which a pooling would have to choose."""
    low, high = x.aminmax()
    noise = torch.rand(x.shape, generator=seeded_generator("cpu", "noise"), dtype=torch.float64)
    width = high - low
    return (low + noise.to(x.device) * torch.where(width > 0, width, 1)).to(x.dtype)


def _learnable(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            yield value.requires_grad_()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from _tensors(each)


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Take back what forwards leave in attributes: made of stand-ins, in their dtype (old spectral norm, caches)."""
    before = [(each.__dict__, each.__dict__.copy()) for each in module.modules()]
    try:
        yield
    finally:
        for attributes, kept in before:
            attributes.clear()
            attributes.update(kept)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Keep the random generators of a pass to it, compile nothing for it, and say nothing."""
    compiles = "torch._dynamo" in sys.modules
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.compiler.set_stance("force_eager") if compiles else nullcontext(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
