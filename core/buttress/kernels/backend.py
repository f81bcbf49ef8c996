"""Choose the backend, and by it the implementation of an operation."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast, get_args

from torch import Tensor

from buttress.errors import ConfigError
from buttress.kernels import checked, native, reference

Backend = Literal["auto", "native", "torch"]

_NAMES = get_args(Backend)

_chosen: ContextVar[Backend | None] = ContextVar("buttress_backend", default=None)


def backend() -> Backend:
    """Return the backend in force: the innermost ``use_backend``, else ``BUTTRESS_BACKEND``, else ``auto``.

    Raises:
        ConfigError: BUTTRESS_BACKEND holds another name.
    """
    return _chosen.get() or _checked(os.environ.get("BUTTRESS_BACKEND") or "auto", "BUTTRESS_BACKEND")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend inside a ``with`` block.

    Raises:
        ConfigError: the name is unknown, or it is ``native`` and there are no compiled operations.
    """
    choice = _checked(name, "backend")
    if choice == "native" and not native.operations():
        raise ConfigError(f"backend native: {native.why_not()}; use backend auto or torch")
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def operation(name: str, tensors: Sequence[Tensor] | None = None) -> Callable[..., Any]:
    """Return the implementation of an operation on ``tensors`` (None: on the host), in the backend in force.

    On CUDA the backend ``auto`` uses compiled code where that has passed its check on a GPU (``checked.py``), on other
    devices never. An empty list goes to the twin, because the dispatcher of torch needs a device.

    Raises:
        ConfigError: the backend is ``native`` and there is no compiled operation of this name.
    """
    choice = backend()
    if choice == "native" or (choice == "auto" and (not tensors or _serves(tensors[0].device.type))):
        compiled = native.operations().get(name)
        if compiled is None and choice == "native":
            raise ConfigError(f"backend native: {native.why_not(name)}; use backend auto or torch")
        if compiled is not None and (tensors is None or len(tensors) > 0):
            return compiled
    return getattr(reference, name)  # type: ignore[no-any-return]


def _serves(device: str) -> bool:
    """Whether ``auto`` uses compiled code on a device of this type."""
    return device == "cpu" or (device == "cuda" and checked.on_cuda())


def status() -> dict[str, str]:
    """Return the backend in force and the facts about compiled code, for ``buttress doctor``."""
    return {"backend": backend(), **native.status(), "check on a GPU": checked.describe()}


def _checked(name: str, where: str) -> Backend:
    if name in _NAMES:
        return cast(Backend, name)
    raise ConfigError(f"expected one of {', '.join(_NAMES)}, got {name!r}", key=where)
