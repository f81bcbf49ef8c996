"""Locks between processes, on one machine or on several that share a file system. They end with their process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from buttress.storage.files import FOLDERS_OPEN, make_folder, storage_errors


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of the file ``path``, which is made; it is given up with the block, and when the process ends.

    Some network file systems have no locks: there, nobody is kept out.

    Args:
        path: file of the lock.
        wait: whether to wait for the process that holds it.

    Yields:
        False where another process holds it, which happens only without ``wait``.

    Raises:
        StorageError: the file cannot be made.
    """
    with storage_errors(path):
        make_folder(path.parent)
        stream = path.open("a")
    with stream:
        yield take_lock(stream.fileno(), wait=wait)


def take_lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file or folder until it is closed. Where there are no locks, nobody is kept out.

    Returns:
        False where another process holds it.
    """
    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError:
        return True


def open_lock_of(folder: Path) -> int:
    """Open what a folder is locked by: the folder itself, or a hidden file in it where folders cannot be opened.

    Raises:
        OSError: it cannot be opened.
    """
    if FOLDERS_OPEN:
        return os.open(folder, os.O_RDONLY)
    return os.open(lock_of(folder), os.O_RDWR | os.O_CREAT)


def lock_of(folder: Path) -> Path:
    """Path of what ``open_lock_of`` opens."""
    return folder if FOLDERS_OPEN else folder / ".lock"
