"""Which backend is in force, and which implementation of an operation that means."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

from buttress.errors import ConfigError
from buttress.kernels import _native, reference

Backend = Literal["auto", "native", "torch"]

_chosen: ContextVar[Backend | None] = ContextVar("buttress_backend", default=None)


def backend() -> Backend:
    """The backend in force: the innermost ``use_backend``, else ``BUTTRESS_BACKEND``, else ``auto``.

    Raises:
        ConfigError: BUTTRESS_BACKEND holds something else.
    """
    return _chosen.get() or _checked(os.environ.get("BUTTRESS_BACKEND", "auto"), "BUTTRESS_BACKEND")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend inside a ``with`` block.

    Raises:
        ConfigError: unknown name, or ``native`` without compiled operations.
    """
    choice = _checked(name, "backend")
    if choice == "native" and not _native.operations():
        raise ConfigError(f"backend native: {_native.why_not()}; use backend auto or torch")
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def operation(name: str) -> Callable[..., Any]:
    """The implementation of an operation in the backend in force.

    Raises:
        ConfigError: the backend is ``native`` and there is no compiled one.
    """
    choice = backend()
    if choice != "torch":
        compiled = _native.operations().get(name)
        if compiled is not None:
            return compiled
        if choice == "native":
            raise ConfigError(f"backend native: {_native.why_not(name)}; use backend auto or torch")
    return getattr(reference, name)  # type: ignore[no-any-return]


def _checked(name: str, where: str) -> Backend:
    for known in get_args(Backend):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"{where}: expected one of {', '.join(get_args(Backend))}, got {name!r}")
