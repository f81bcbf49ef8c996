"""Folders that appear whole or not at all, as files do."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buttress.storage.files import make_folder, storage_errors, sync_folder

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.new")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder under a hidden name beside ``path``, to be filled; with the end of the block it is at ``path``.

    Where the block raises, there is none. What processes that were killed in such a block have left beside ``path`` is
    removed.

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
        os.close(lock)


def _begin(path: Path) -> tuple[Path, int]:
    """The hidden folder, and the descriptor by which it is locked while its maker is alive."""
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        has_locks = _locked(parent, fcntl.LOCK_EX)  # nobody takes one for left that is made and not yet locked
        for left in path.parent.glob(".*.new") if has_locks else ():
            _remove_if_left(left)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        _locked(lock, fcntl.LOCK_EX)
        return temporary, lock
    finally:
        os.close(parent)


def _remove_if_left(path: Path) -> None:
    if not _UNFINISHED.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _locked(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    """False where another process has it, or the file system has no locks."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
