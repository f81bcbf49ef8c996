"""Standard output and error that outlive whoever reads them: work never ends because nobody listens."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}
"""A pipe without a reader, a terminal that was closed: whoever did it knows."""


class Lasting(io.TextIOBase):
    """A stream that loses what it cannot write: the terminal has gone, the pipe has no reader, the disk is full.

    Characters that its encoding lacks are written as escapes. From the first failure on everything goes to the null
    device.

    Args:
        name: ``stdout`` or ``stderr``.
        stream: where it writes; by default whatever ``sys`` has under that name at the time, None included.
    """

    def __init__(self, name: str, stream: Any = None) -> None:
        self._name, self._own = name, stream
        self.problem: OSError | ValueError | None = None
        """What the first failure was."""

    @property
    def _stream(self) -> Any:
        stream = self._own or getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # rich puts itself before it while a bar is shown

    def __getattr__(self, name: str) -> Any:
        """Whatever else the stream has: ``buffer``, ``reconfigure``."""
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
        except (OSError, ValueError) as problem:  # ValueError: it is closed
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
        """Why something was lost that somebody still waits for; empty where all was written, or the reader has gone."""
        if not isinstance(self.problem, OSError) or self.problem.errno in _GONE:
            return ""
        return str(self.problem.strerror)


@contextmanager
def lasting_streams() -> Iterator[Lasting]:
    """Let nothing that is printed within the block fail, by whomever; yields standard output."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    output, errors = (Lasting(name, getattr(sys, name)) for name in ("stdout", "stderr"))
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()  # at its end Python would fail on what is left, and put 120 in the place of the exit code
        errors.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Give standard streams that were closed (``>&-``) the null device: the next file that is opened would get their
    number, and with it whatever is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
