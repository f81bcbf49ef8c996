"""Which backend is in force, and which implementation of an operation that means."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

from torch import Tensor

from buttress.errors import ConfigError
from buttress.kernels import native, reference

Backend = Literal["auto", "native", "torch"]

_chosen: ContextVar[Backend | None] = ContextVar("buttress_backend", default=None)


def backend() -> Backend:
    """The backend in force: the innermost ``use_backend``, else ``BUTTRESS_BACKEND``, else ``auto``.

    Raises:
        ConfigError: BUTTRESS_BACKEND holds something else.
    """
    return _chosen.get() or _checked(os.environ.get("BUTTRESS_BACKEND") or "auto", "BUTTRESS_BACKEND")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend inside a ``with`` block.

    Raises:
        ConfigError: unknown name, or ``native`` without compiled operations.
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
    """The implementation of an operation on ``tensors``, in the backend in force.

    Compiled code has not run on CUDA yet: there it is taken only where the backend is ``native``. An empty list has no
    device that torch's dispatcher could go by, and is the twin's. None: an operation on the host.

    Raises:
        ConfigError: the backend is ``native`` and there is no compiled one.
    """
    choice = backend()
    if choice == "native" or (choice == "auto" and (not tensors or tensors[0].device.type == "cpu")):
        compiled = native.operations().get(name)
        if compiled is None and choice == "native":
            raise ConfigError(f"backend native: {native.why_not(name)}; use backend auto or torch")
        if compiled is not None and (tensors is None or len(tensors) > 0):
            return compiled
    return getattr(reference, name)  # type: ignore[no-any-return]


def status() -> dict[str, str]:
    """For ``buttress doctor``: the backend asked for, and what compiled code there is."""
    return {"backend": backend(), **native.status()}


def _checked(name: str, where: str) -> Backend:
    for known in get_args(Backend):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"{where}: expected one of {', '.join(get_args(Backend))}, got {name!r}")
