"""Switch the modes of a model for an attack, a weight perturbation or an evaluation, and back afterwards."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from typing import ParamSpec, TypeGuard, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from buttress.hookspecs import AttackMode as AttackMode
from buttress.nn.synced_batchnorm import SyncedBatchNorm, SyncedOnCuda

ATTACK_MODES: tuple[AttackMode, ...] = get_args(AttackMode)


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def takes_gradients(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Let ``function`` take gradients where its caller has switched them off (``no_grad``, ``inference_mode``)."""

    @wraps(function)
    def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return called


def usable(tensor: Tensor) -> Tensor:
    """``tensor`` as a constant: without its graph, and copied where it was made under ``inference_mode``."""
    if tensor.is_inference():  # autograd refuses it
        return tensor.clone()
    return tensor.detach() if tensor.requires_grad else tensor


class Modes:
    """Switches the modes of a model's modules, and always switches each module back to its own mode.

    The list of modules is read once, so that a switch costs microseconds. Make a new ``Modes`` after adding modules.

    Args:
        model: the model.
        by_copies: whether the forwards of ``buffers_as_found`` write into copies of all buffers, also those of batch
            norm, which are otherwise asked to leave them: a compiled graph would be compiled again for that.
    """

    def __init__(self, model: nn.Module, *, by_copies: bool = False) -> None:
        self._named = tuple(model.named_modules())
        self._modules = tuple(module for _, module in self._named)
        norms = () if by_copies else self._modules
        self._norms = tuple(module for module in norms if _obeys_track_running_stats(module))
        # Any forward may write into all other buffers (spectral norm's vectors, masks, the statistics of norms with a
        # forward of their own), so a forward that must leave no trace gets copies.
        self._others = tuple(module for module in self._modules if module not in {*self._norms})
        self._parameters = tuple(model.parameters())

    @contextmanager
    def attacking(self, mode: AttackMode) -> Iterator[None]:
        """Switch to an attack mode, without gradients with respect to weights, for ``generate_adv``.

        ``eval``: all modules in eval mode. ``train_notrack``: each in its own mode, buffers stay as found.
        ``train``: each in its own mode, every forward moves the batch-norm buffers. Each parameter's own
        ``requires_grad`` and ``.grad`` are restored.
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
        except BaseException:
            for parameter, flag, grad in zip(self._parameters, required, grads, strict=True):
                with suppress(RuntimeError):  # of another dtype or shape by now; the error that was raised matters more
                    _give_back(parameter, flag, grad)
            raise
        for parameter, flag, grad in zip(self._parameters, required, grads, strict=True):
            _give_back(parameter, flag, grad)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put all modules into eval mode."""
        before = [module.training for module in self._modules]
        try:
            for module in self._modules:
                _set(module, "training", False)
            yield
        finally:
            for module, training in zip(self._modules, before, strict=True):
                _set(module, "training", training)

    def tracking(self) -> list[_BatchNorm]:
        """The batch norms whose next forward moves their running statistics."""
        return [n for n in self._norms if n.training and n.track_running_stats and n.running_mean is not None]

    def read_buffers(self) -> dict[str, Tensor]:
        """The buffers whose values a forward depends on, by name: all but those of batch norms in train mode."""
        return {
            f"{path}.{name}" if path else name: buffer
            for path, module in self._named
            if not (module.training and _obeys_track_running_stats(module))
            for name, buffer in module._buffers.items()
            if buffer is not None
        }

    def of_now(self) -> Callable[[], AbstractContextManager[None]]:
        """A function that opens a block in which each module has the mode of now, and no buffer moves."""
        flags, tracked, moved = self._flags(), [norm.track_running_stats for norm in self._norms], self.tracking()

        @contextmanager
        def again() -> Iterator[None]:
            before, tracked_before = self._flags(), [norm.track_running_stats for norm in self._norms]
            try:
                self._set_flags(flags, tracked)
                with _buffers_lent(moved):  # and not switched off: autograd counts what batch norm keeps for a backward
                    yield
            finally:
                self._set_flags(before, tracked_before)

        return again

    def _flags(self) -> list[bool]:
        return [module.training for module in self._modules]

    def _set_flags(self, training: Sequence[bool], tracked: Sequence[bool]) -> None:
        for module, flag in zip(self._modules, training, strict=True):
            if module.training is not flag:
                _set(module, "training", flag)
        for norm, flag in zip(self._norms, tracked, strict=True):
            if norm.track_running_stats is not flag:
                _set(norm, "track_running_stats", flag)

    @contextmanager
    def buffers_as_found(self) -> Iterator[None]:
        """Keep modules in their own modes (batch statistics where training), but let no buffer move."""
        norms = [norm for norm in self._norms if norm.training and norm.track_running_stats]
        try:
            for norm in norms:
                _set(norm, "track_running_stats", False)
            with _buffers_lent(self._others):
                yield
        finally:
            for norm in norms:
                _set(norm, "track_running_stats", True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all modules of ``model`` into eval mode; afterwards each has its own mode again."""
    with Modes(model).evaluating():
        yield


def _give_back(parameter: nn.Parameter, required: bool, grad: Tensor | None) -> None:
    parameter.requires_grad = required
    parameter.grad = grad


def _obeys_track_running_stats(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Batch norm whose forward leaves its statistics alone while ``track_running_stats`` is off."""
    return isinstance(module, _BatchNorm) and type(module).forward in (
        _BatchNorm.forward,
        SyncBatchNorm.forward,
        SyncedBatchNorm.forward,
        SyncedOnCuda.forward,
    )


@contextmanager
def _buffers_lent(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let forwards read and write copies of the buffers of ``modules``; afterwards the buffers themselves are back.

    The copies keep the values of the forwards, because autograd may need them until its backward. The values of a
    buffer that was written into past its module's attribute are restored in place.
    """
    lent = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None
    ]
    with torch.inference_mode(False):  # autograd takes no tensors of inference mode, and they count no versions
        copies = _copies([buffer for _, _, buffer in lent])
    versions = [(buffer._version, copy._version) for (_, _, buffer), copy in zip(lent, copies, strict=True)]
    try:
        for (module, name, _), copy in zip(lent, copies, strict=True):
            module._buffers[name] = copy
        yield
    finally:
        for (module, name, buffer), copy, before in zip(lent, copies, versions, strict=True):
            module._buffers[name] = buffer
            if buffer._version != before[0] and copy._version == before[1]:
                with torch.no_grad():
                    buffer.copy_(copy)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies that share memory with one another where ``tensors`` do."""
    memories = list(map(_memory, tensors))
    if len(set(memories)) == len(memories):
        return [tensor.detach().clone() for tensor in tensors]
    copies: dict[int, Tensor] = {}  # of whole memories, as bytes; of tensors without memory, as they are
    for tensor, memory in zip(tensors, memories, strict=True):
        if memory not in copies:
            copies[memory] = tensor.detach().clone() if memory < 0 else _bytes_copied(tensor)
    return [
        copies[memory] if memory < 0 else _as(tensor, copies[memory])
        for tensor, memory in zip(tensors, memories, strict=True)
    ]


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's memory, or a unique negative number where it has none (sparse, empty)."""
    has = tensor.layout is torch.strided and tensor.numel() > 0 and not tensor.is_meta
    return tensor.untyped_storage().data_ptr() if has else -id(tensor)


def _bytes_copied(tensor: Tensor) -> Tensor:
    """A copy of all bytes of the memory in which ``tensor`` lies."""
    copy = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return copy.set_(tensor.untyped_storage().clone())  # type: ignore[no-untyped-call]


def _as(tensor: Tensor, memory: Tensor) -> Tensor:
    """The part of ``memory``, bytes, at the place that ``tensor`` has in its own memory."""
    return memory.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _set(module: nn.Module, flag: str, value: bool) -> None:
    if flag in module.__dict__:
        module.__dict__[flag] = value  # nn.Module.__setattr__ costs twenty times this
    else:
        setattr(module, flag, value)


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name; tied ones once."""
    return dict(model.named_parameters())


@contextmanager
def weights_swapped(model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Iterator[None]:
    """Give ``model`` other weights and buffers (those not named stay); restore all bit for bit afterwards."""
    parameters = parameters_of(model)
    saved = {name: place.detach().clone() for name, place in parameters.items()}
    with _buffers_lent(model.modules()):
        try:
            _copy_into({**parameters, **dict(model.named_buffers())}, {**weights, **buffers})
            yield
        finally:
            _copy_into(parameters, saved)


@torch.no_grad()
def _copy_into(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        places[name].copy_(value)
