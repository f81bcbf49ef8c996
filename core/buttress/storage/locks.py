"""Locks on files, by which processes, on one machine or on several that share a file system, leave each other alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buttress.storage.files import make_folder, storage_errors


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of the file ``path``, which is made; it is given up with the block, and when the process ends.

    Some network file systems have no locks: there, nobody is kept out.

    Args:
        path: file of the lock.
        wait: until whoever holds it gives it up.

    Yields:
        False where another process holds it, which happens without ``wait`` alone.

    Raises:
        StorageError: the file cannot be made.
    """
    with storage_errors(path):
        make_folder(path.parent)
        stream = path.open("a")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
