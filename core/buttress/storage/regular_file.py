"""Open files that others provide, and refuse at once whatever is no regular file.

A pipe has no end before somebody writes into it, and ``/dev/zero`` has none at all. Every function raises OSError, as
opening does, with the reason as its ``strerror``.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# Python closes the descriptor in other programs by itself. O_NONBLOCK: a pipe that takes the file's place after it was
# looked at makes nobody wait. O_BINARY: Windows would end lines otherwise.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def expect_regular_file(path: Path) -> None:
    """Check a file that a library opens by itself.

    Raises:
        OSError: there is no such file, it cannot be reached, or it is a folder, a pipe, a socket or a device.
    """
    _expect_regular(path.stat().st_mode, path)


def expect_file_or_folder(path: Path) -> None:
    """Check an entry of a folder.

    Raises:
        OSError: it cannot be reached, or it is a pipe, a socket or a device.
    """
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        _expect_regular(mode, path)


def open_regular_file(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        OSError: as ``expect_regular_file``, or it cannot be opened.
    """
    expect_regular_file(path)
    descriptor = os.open(path, _READ)
    try:
        _expect_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: Path, at_most: int | None = None) -> bytes:
    """The bytes of a regular file.

    Args:
        path: path of the file.
        at_most: number of bytes beyond which nothing is read; None for no limit.

    Raises:
        OSError: as ``open_regular_file``; EFBIG where the file is larger.
    """
    with open_regular_file(path) as stream:
        if at_most is None:
            return stream.read()
        content = stream.read(at_most + 1)  # not the size that the system tells: the file may be growing
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"expected at most {at_most:,} bytes, it has more", str(path))
    return content


def _expect_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    raise OSError(errno.EINVAL, f"expected a regular file, it is {kind}", str(path))
