"""Model modes: what an attack, a weight perturbation or an evaluation may change, and what is put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

AttackMode = Literal["train", "train_notrack", "eval"]
ATTACK_MODES = ("train", "train_notrack", "eval")


class Modes:
    """Switches the modes of a model's modules and always puts each module's own mode back.

    The list of modules is read once, so that a switch costs microseconds; make a new ``Modes`` after adding modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = tuple(model.modules())
        self._norms = tuple(module for module in self._modules if isinstance(module, _NormBase))
        known = {id(buffer) for norm in self._norms for buffer in norm.buffers(recurse=False)}
        # Buffers outside of norm layers (spectral norm's vectors): rare, and only a copy can protect them.
        self._other_buffers = tuple(buffer for buffer in model.buffers() if id(buffer) not in known)
        self._parameters = tuple(model.parameters())

    @contextmanager
    def attacking(self, mode: AttackMode) -> Iterator[None]:
        """For ``generate_adv``: the attack mode, and no gradients with respect to weights.

        ``eval``: all modules in eval mode. ``train_notrack``: each in its own mode, buffers stay as found.
        ``train``: each in its own mode, every forward moves the batch-norm buffers. Each parameter's own
        ``requires_grad`` and ``.grad`` are put back.
        """
        required = [parameter.requires_grad for parameter in self._parameters]
        grads = [parameter.grad for parameter in self._parameters]
        try:
            for parameter in self._parameters:
                parameter.requires_grad = False
            if mode == "eval":
                with self.evaluating():
                    yield
            elif mode == "train_notrack":
                with self.buffers_as_found():
                    yield
            else:
                yield
        finally:
            for parameter, flag, grad in zip(self._parameters, required, grads, strict=True):
                parameter.requires_grad = flag
                parameter.grad = grad

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """All modules in eval mode."""
        found = [module.training for module in self._modules]
        try:
            for module in self._modules:
                _set_training(module, False)
            yield
        finally:
            for module, training in zip(self._modules, found, strict=True):
                _set_training(module, training)

    @contextmanager
    def buffers_as_found(self) -> Iterator[None]:
        """Modules in their own modes (batch statistics where training), but no buffer moves."""
        norms = [norm for norm in self._norms if norm.training and norm.track_running_stats]
        saved = [buffer.clone() for buffer in self._other_buffers]
        try:
            for norm in norms:
                norm.track_running_stats = False
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True
            with torch.no_grad():
                for buffer, copy in zip(self._other_buffers, saved, strict=True):
                    buffer.copy_(copy)


def _set_training(module: nn.Module, training: bool) -> None:
    if "training" in module.__dict__:
        module.__dict__["training"] = training  # nn.Module.__setattr__ costs twenty times this
    else:
        module.training = training


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name; tied ones once."""
    return dict(model.named_parameters())


@contextmanager
def weights_swapped(model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Iterator[None]:
    """``model`` with other weights and buffers (those not named stay); all put back bit for bit afterwards."""
    places = {**parameters_of(model), **dict(model.named_buffers())}
    saved = {name: place.detach().clone() for name, place in places.items()}
    try:
        with torch.no_grad():
            for name, value in {**weights, **buffers}.items():
                places[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in saved.items():
                places[name].copy_(value)
