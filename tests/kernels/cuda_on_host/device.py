"""A library of kernels that run on the host, and device memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.kernels.cuda_on_host.numbers import Array


class LaunchError(Exception):
    """A launch returned an error."""


class Device:
    """A library, and memory of it that is full of garbage first and knows when it was overrun."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.CDLL(str(library))
        self._c.on_host_message.restype = ctypes.c_char_p
        self._c.on_host_allocate.restype = ctypes.c_void_p
        self._c.on_host_free.restype = ctypes.c_bool
        self._memory: list[tuple[int, int]] = []

    def call(self, name: str, *arguments: Any) -> None:
        """Launch.

        Raises:
            LaunchError: the returned code is not 0.
        """
        code = getattr(self._c, name)(*(_argument(argument) for argument in arguments))
        if code != 0:
            raise LaunchError(f"{name}: error {code}: {self._c.on_host_message().decode()}")

    def constant(self, name: str) -> int:
        return ctypes.c_int64.in_dll(self._c, name).value

    def empty(self, size: int, dtype: Any) -> Array:
        """``[size]``, full of NaN."""
        length = size * np.dtype(dtype).itemsize
        address = self._c.on_host_allocate(ctypes.c_size_t(length))
        self._memory.append((address, length))
        return np.ndarray((size,), dtype, (ctypes.c_byte * length).from_address(address))

    def array(self, values: Array, shift: int = 0) -> Array:
        """A flat copy, ``shift`` elements behind the start of its memory."""
        memory = self.empty(values.size + shift, values.dtype)
        memory[shift:] = values.ravel()
        return memory[shift:]

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Free on leaving all memory that was allocated within.

        Raises:
            AssertionError: something was written beyond its ends.
        """
        try:
            yield
        finally:
            whole = [self._c.on_host_free(ctypes.c_void_p(at), ctypes.c_size_t(length)) for at, length in self._memory]
            self._memory.clear()
        assert all(whole), "a kernel wrote beyond the ends of an array"

    @contextmanager
    def order(self, *, backwards: bool = False, only_last: bool = False) -> Iterator[None]:
        """Run threads and blocks from the last one to the first; of each launch only the last block."""
        self._c.on_host_order(backwards, only_last)
        try:
            yield
        finally:
            self._c.on_host_order(False, False)


def _argument(value: Any) -> Any:
    """As all integers fill a register, whatever their type is."""
    if value is None or isinstance(value, np.ndarray):
        return ctypes.c_void_p(None if value is None else address_of(value))
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)


def address_of(array: Array) -> int:
    return array.__array_interface__["data"][0]
