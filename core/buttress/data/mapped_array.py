"""An array in a file that is mapped into memory: its bytes are read when rows are asked for."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from io import BufferedReader
from math import prod

import numpy as np
from numpy.typing import NDArray

from buttress.errors import DataError

_PART = 2**22
"""Bytes that are read at once where all rows are looked at."""


class MappedArray:
    """Rows of an array in a file; memory is that of the rows asked for, beside the page cache of the system.

    Args:
        raw: the open file, which is closed with this array.
        name: name of the array for messages.
        offset: position of its first byte.
        shape: ``(n, *)``.
        dtype: its dtype, in the byte order of this machine.
    """

    def __init__(self, raw: BufferedReader, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self._raw, self._offset = raw, offset
        weakref.finalize(self, raw.close)
        self.nbytes = prod(shape) * dtype.itemsize
        self._array: NDArray[np.generic] = np.empty(shape, dtype)[:0] if self.nbytes == 0 else self._map()

    def _map(self) -> NDArray[np.generic]:
        before = self._offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._raw.fileno(), before + self.nbytes, access=mmap.ACCESS_READ, offset=self._offset - before
        )
        if hasattr(mmap, "MADV_RANDOM"):  # without it, the system reads on behind every row
            mapped.madvise(mmap.MADV_RANDOM)
        flat = np.frombuffer(mapped, np.uint8, self.nbytes, before)
        return flat.view(self.dtype).reshape(self.shape)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.generic]:
        """Copy of the rows at ``positions [b]``.

        Raises:
            DataError: the file has become shorter.
        """
        self._expect_whole()  # reading what is no longer there would end the process by a signal
        return self._array[positions]

    def parts(self) -> Iterator[NDArray[np.generic]]:
        """All rows in their order, some at a time, read from the file without the map.

        Raises:
            DataError: the file has become shorter, or cannot be read.
        """
        row = max(1, self.nbytes // max(1, len(self)))
        step = max(1, _PART // row)
        self._expect_whole()
        for first in range(0, len(self), step):
            size = min(step, len(self) - first) * row
            try:
                self._raw.seek(self._offset + first * row)
                content = self._raw.read(size)
            except OSError as problem:
                raise DataError(f"{self.name} cannot be read: {problem.strerror}; check the disk") from None
            if len(content) < size:
                self._expect_whole()
            yield np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])

    def _expect_whole(self) -> None:
        size, needed = os.fstat(self._raw.fileno()).st_size, self._offset + self.nbytes
        if size < needed:
            raise DataError(
                f"{self.name} has been truncated while it was in use: expected {needed:,} bytes, got {size:,}; put the "
                "file back and resume the run"
            )
