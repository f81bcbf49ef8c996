"""Fill a folder under a hidden name, and rename it when it is complete, so that nobody meets half a folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from buttress.storage.files import FOLDERS_OPEN, make_folder, storage_errors, sync_folder

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.new")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder under a hidden name beside ``path`` to the block, and rename it to ``path`` after the block.

    If the block raises, the folder is removed. So are hidden folders beside ``path`` that a killed process left.

    Raises:
        FileExistsError: something is at ``path``.
        StorageError: the disk is full or refuses.
    """
    make_folder(path.parent)
    with storage_errors(path):
        temporary, lock = _begin(path)
    try:
        yield temporary
        if path.exists():
            raise FileExistsError(path)
        with storage_errors(path):
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _begin(path: Path) -> tuple[Path, int | None]:
    """The hidden folder, and the descriptor by which it is locked while its maker is alive; None without locks.

    Without locks a folder that was left looks like one that is being made: there, none is removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    if not FOLDERS_OPEN:
        temporary.mkdir()
        return temporary, None
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        has_locks = _lock(parent, wait=True)  # nobody takes one for left that is made and not yet locked
        for left in path.parent.glob(".*.new") if has_locks else ():
            _remove_if_left(left)
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        _lock(lock, wait=True)
        return temporary, lock
    finally:
        os.close(parent)


def _remove_if_left(path: Path) -> None:
    if not _UNFINISHED.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _lock(descriptor, wait=False):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """False where another process has it, or the file system has no locks."""
    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError:
        return False
