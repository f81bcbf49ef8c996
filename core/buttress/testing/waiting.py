"""Find the places at which the host waits for the device: on CUDA torch tells them, on the CPU they are worked out.

On the CPU nothing waits, so tensors are told apart by where they would lie: on the host those that are made without a
``device`` (``torch.rand(n, generator=generator)``), and what is computed of these alone; all others on the device.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

_READS_VALUES = frozenset(
    {
        *("_local_scalar_dense", "equal", "allclose", "is_nonzero", "_linalg_check_errors", "_assert_tensor_metadata"),
        *("nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive"),
        *("unique_dim_consecutive", "bincount", "histc", "multinomial"),
    }
)
"""Operations of torch for which CUDA hands numbers, or sizes that depend on numbers, to the host."""
_COPIES_TO_HOST = frozenset({Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__, Tensor.__repr__})
_MAKES_OF_VALUES = frozenset({torch.tensor, torch.as_tensor, Tensor.new_tensor})
_INDEXES = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_NOT_OWN = (str(Path(torch.__file__).parent), __file__, "<")


class Waits:
    """Notes where the host waits for the device within its block.

        with Waits() as waits:
            engine = Engine(model, optimizer, ["pgd", MyDefense()], threat, checks="interval")
            engine.step(x, y)  # makes the optimizer's state
            waits.places.clear()
            engine.step(x, y)
        assert not waits.places

    Make model and batches before the block, and the engine in it: what is made before counts as the device's, and
    tensors that are made in the block without a device as the host's.

    Args:
        device: device on which the block computes; on the CPU, the places are those that would wait on CUDA.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.places: list[str] = []
        """Each place once: ``"my_defense.py:12: tolist"``."""
        self._device, self._modes, self._notes = torch.device(device), ExitStack(), True

    def __enter__(self) -> Self:
        host = _Host()
        if self._device.type == "cuda":
            self._modes.enter_context(_on_cuda(self))
        else:
            self._modes.enter_context(_Operations(host, self))
            self._modes.enter_context(_Calls(host, self))
        return self

    def __exit__(self, *problem: object) -> None:
        self._modes.close()

    @contextmanager
    def noting_nothing(self) -> Iterator[None]:
        """Note no place in the block."""
        before, self._notes = self._notes, False
        try:
            yield
        finally:
            self._notes = before

    def note(self, what: str) -> None:
        """Note that the innermost code that is not torch's waits by ``what``."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_OWN):
            frame = frame.f_back
        place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}: {what}"
        if self._notes and place not in self.places:
            self.places.append(place)


@contextmanager
def _on_cuda(waits: Waits) -> Iterator[None]:
    show, before = warnings.showwarning, torch.cuda.get_sync_debug_mode()

    def note(message: Warning | str, *about: Any, **more: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            waits.note("it synchronizes")
        else:
            show(message, *about, **more)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".*synchronizing CUDA operation")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


class _Host:
    """The tensors that would lie on the host."""

    def __init__(self) -> None:
        self._tensors = WeakTensorKeyDictionary()
        self.makes_on_device = False
        """Whether the call in progress names a device for what it makes."""

    def has_all(self, tensors: Iterable[Tensor]) -> bool:
        return all(each in self._tensors and not isinstance(each, nn.Parameter) for each in tensors)

    def add(self, answer: object) -> None:
        for each in _tensors(answer):
            self._tensors[each] = None

    def moved(self, tensor: Tensor) -> Tensor:
        """``tensor`` as one that lies on the device; the one that was given may stay on the host."""
        moved = tensor.view_as(tensor)
        if moved in self._tensors:
            del self._tensors[moved]
        return moved


class _Calls(TorchFunctionMode):
    """Sees calls of torch in Python, with the arguments that were given."""

    def __init__(self, host: _Host, waits: Waits) -> None:
        super().__init__()
        self._host, self._waits = host, waits

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if name := self._wait(function, args, kwargs):
            self._waits.note(name)
        before, self._host.makes_on_device = self._host.makes_on_device, kwargs.get("device") is not None
        try:
            with self._waits.noting_nothing() if _checks_on_cpu(function, args, kwargs) else nullcontext():
                answer = function(*args, **kwargs)
        finally:
            self._host.makes_on_device = before
        return self._host.moved(answer) if _moves(function, args, kwargs) else answer

    def _wait(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The name of a call that waits, or an empty text."""
        if function in _COPIES_TO_HOST or (function is Tensor.to and "cpu" in [*args[1:], *kwargs.values()]):
            return "" if self._host.has_all(_tensors(args)) else _name(function)
        made_on_device = kwargs.get("device") is not None or function is Tensor.new_tensor
        data = args[-1] if args else kwargs.get("data")
        if function in _MAKES_OF_VALUES and made_on_device and not isinstance(data, Tensor):
            return f"{_name(function)} copies numbers to the device"
        if _moves(function, args, kwargs) and self._host.has_all(args[:1]) and not kwargs.get("non_blocking"):
            return "to copies numbers to the device"
        return ""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the operations that calls come down to."""

    def __init__(self, host: _Host, waits: Waits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._host, self._waits = host, waits

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        is_made = not tensors or operation.overloadpacket is torch.ops.aten.lift_fresh
        on_host = not self._host.makes_on_device if is_made else self._host.has_all(tensors)
        name = operation._schema.name.removeprefix("aten::")
        if not on_host and _reads_values(name, args, kwargs):
            self._waits.note(name)
        elif not on_host and name in _INDEXES and any(self._host.has_all([each]) for each in _tensors(args[1])):
            self._waits.note(f"{name} copies positions to the device")
        answer = operation(*args, **kwargs)
        if on_host:
            self._host.add(answer)
        return answer


def _reads_values(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if name in _INDEXES:
        fills = name != "index" and args[2].numel() == 1  # which torch does by a mask
        return not fills and any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name == "normal":
        return isinstance(args[1], Tensor)  # standard deviations, which are checked
    return name in _READS_VALUES


def _checks_on_cpu(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether torch looks at values on the CPU in this call, and on CUDA does not."""
    return function is F.one_hot and (args[1] if len(args) > 1 else kwargs.get("num_classes", -1)) >= 0


def _moves(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call moves a tensor to a device that it names."""
    return function is Tensor.to and any(isinstance(each, torch.device) for each in [*args, *kwargs.values()])


def _tensors(tree: object) -> list[Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))
