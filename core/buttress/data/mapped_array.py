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
        self._before = offset % mmap.ALLOCATIONGRANULARITY
        self._map: mmap.mmap | None = None
        self._array: NDArray[np.generic] = np.empty((0, *shape[1:]), dtype)
        if self.nbytes:
            size, start = self._before + self.nbytes, offset - self._before
            self._map = mmap.mmap(raw.fileno(), size, access=mmap.ACCESS_READ, offset=start)
            flat = np.frombuffer(self._map, np.uint8, self.nbytes, self._before)
            self._array = flat.view(dtype).reshape(shape)
        if self._map is not None and hasattr(mmap, "MADV_RANDOM"):  # else the system reads on behind every row
            self._map.madvise(mmap.MADV_RANDOM)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def _row(self) -> int:
        """Bytes of a row."""
        return self.nbytes // max(1, len(self))

    def prefetch(self, positions: NDArray[np.int64]) -> None:
        """Have the system read the rows at ``positions [b]`` from the disk, all at once; returns before they are there.

        Copying rows that are not in the page cache would wait for one after the other.
        """
        if self._map is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        first = self._before + positions * self._row
        pages = first - first % mmap.PAGESIZE
        for page, size in zip(pages.tolist(), (first + self._row - pages).tolist(), strict=True):
            self._map.madvise(mmap.MADV_WILLNEED, page, size)

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
        row = self._row
        step = max(1, _PART // max(1, row))
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
