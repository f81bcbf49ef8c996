"""Standard output and error that survive the loss of their reader, so that work never ends for want of one."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}
"""A pipe without a reader, a closed terminal: the user did it, and knows."""


class Lasting(io.TextIOBase):
    """A stream that drops text instead of failing: the terminal is closed, the pipe has no reader, the disk is full.

    Characters that the encoding lacks are written as escapes. After the first failure everything goes to the null
    device.

    Args:
        name: ``stdout`` or ``stderr``.
        stream: stream to write to; by default the one in ``sys`` under that name at the time, None included.
    """

    def __init__(self, name: str, stream: Any = None) -> None:
        self._name, self._own = name, stream
        self.problem: OSError | ValueError | None = None
        """The first failure."""

    @property
    def _stream(self) -> Any:
        stream = self._own or getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # rich replaces the stream while a bar is shown

    def __getattr__(self, name: str) -> Any:
        """Other attributes of the stream: ``buffer``, ``reconfigure``."""
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._stream, "encoding", None) or "utf-8")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(self._stream is not None and self._stream.isatty())
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError(errno.EBADF, f"{self._name} is closed")
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        stream = self._stream
        if stream is None:
            return len(text)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        except (OSError, ValueError) as problem:  # ValueError: the stream is closed
            self._lose(problem)
        return len(text)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError) as problem:
            self._lose(problem)

    def _lose(self, problem: OSError | ValueError) -> None:
        self.problem = self.problem or problem
        with suppress(OSError, ValueError):
            descriptor = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)

    @property
    def loss(self) -> str:
        """Reason for a loss that somebody may notice; empty where all was written, or where the reader has gone."""
        if not isinstance(self.problem, OSError) or self.problem.errno in _GONE:
            return ""
        return str(self.problem.strerror)


@contextmanager
def lasting_streams() -> Iterator[Lasting]:
    """Make standard output and error lasting within the block, for all code; yields standard output."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    output, errors = (Lasting(name, getattr(sys, name)) for name in ("stdout", "stderr"))
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()  # at its exit, Python would fail on unwritten text and replace the exit code by 120
        errors.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Open the null device for standard streams that were closed (``>&-``).

    Otherwise the next file to be opened would get such a stream's number, and with it all printed text.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
