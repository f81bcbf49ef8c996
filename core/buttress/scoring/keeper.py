"""Keep the cells of an evaluation on disk: one file a shard, and all files of the evaluation merged by the reader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from buttress.errors import CheckpointError, RunFolderError
from buttress.scoring.cells import Cells, Shard
from buttress.storage.files import finished_files, storage_errors, write_with
from buttress.storage.locks import locked
from buttress.storage.regular_file import open_regular_file

_ARRAYS = ("table", "done", "seconds", "nonfinite")


class Keeper:
    """The files of one evaluation: ``unfinished-<work>-2of3.npz`` holds the cells that shard 2/3 has done itself.

    Files of any number of shards are merged, so that a cell that one process has done is not done again by another.

    Args:
        folder: folder of the results.
        work: name of the evaluation, equal only where the same work is done.
        cells: its cells, none of them done.
        shard: shard of this process.
    """

    def __init__(self, folder: Path, work: str, cells: Cells, shard: Shard | None = None) -> None:
        self.folder, self.work, self.shard = folder, work, shard or Shard()
        self._own, self._stem = cells, f"unfinished-{work}"
        self._path = folder / f"{self._stem}-{self.shard.index + 1}of{self.shard.count}.npz"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the same shard; where there are no locks, both do the same work.

        Raises:
            RunFolderError: another process is at work on it.
            StorageError: the lock cannot be made.
        """
        lock = self._path.with_suffix(".lock")
        with locked(lock, wait=False) as free:
            if not free:
                work = "this evaluation" if self.shard.whole else f"shard {self.shard} of this evaluation"
                raise RunFolderError(
                    f"{self.folder}: a process is at work on {work}; wait for it, or stop it", path=self.folder
                )
            try:
                yield
            finally:
                _remove_lock(lock)

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Wait until no other process looks whether the evaluation is complete."""
        with locked(self._lock, wait=True):
            yield

    def begin(self) -> Cells:
        """All cells that any process has done.

        Raises:
            CheckpointError: a file is damaged.
        """
        if self._path.is_file():
            self._own.add(self._read(self._path))
        return self.merged()

    def keep(self, row: int, number: int, columns: Tensor, right: Tensor, seconds: float, nonfinite: int = 0) -> None:
        """Save a cell that this process has done; the arguments are those of ``Cells.keep``.

        Raises:
            StorageError: the disk is full or refuses.
        """
        self._own.keep(row, number, columns, right, seconds, nonfinite)
        self._save()

    def merged(self) -> Cells:
        """The cells of all files and those of this process.

        Raises:
            CheckpointError: a file is damaged.
        """
        rows, examples = self._own.table.shape
        cells = Cells.empty(rows, examples, self._own.size)
        cells.add(self._own)
        for path in finished_files(self.folder, f"{self._stem}-*.npz"):
            with suppress(FileNotFoundError):  # another process has completed the evaluation
                cells.add(self._read(path))
        return cells

    def latest(self) -> Cells:
        """As ``merged``, but not as a network file system may remember the folder.

        Its view of a folder may be seconds old, unless this process changes something there.
        """
        if self._own.done.any():
            self._save()
        return self.merged()

    def remove(self) -> None:
        """Remove all files of the evaluation, also the one that older versions wrote.

        Raises:
            StorageError: the system refuses.
        """
        for path in [*self.folder.glob(f"{self._stem}-*.npz"), self.folder / f"{self._stem}.npz"]:
            with storage_errors(path):
                path.unlink(missing_ok=True)
        for path in [*self.folder.glob(f"{self._stem}-*.lock"), self._lock]:
            _remove_lock(path)

    @property
    def _lock(self) -> Path:
        return self.folder / f"{self._stem}.lock"

    def _read(self, path: Path) -> Cells:
        cure = "delete it, and give the same command again: what it held is done anew"
        try:
            with open_regular_file(path) as stream, np.load(stream, allow_pickle=False) as file:
                arrays = [np.asarray(file[name]) for name in _ARRAYS]
                sealed = str(file["sha256"]) == _digest(*arrays)
        except FileNotFoundError:
            raise
        except Exception as problem:  # numpy and zipfile raise many kinds of error about a broken file
            raise CheckpointError(f"{path} is damaged ({problem}); {cure}", path=path) from None
        own = self._own
        expected = [own.table, own.done, own.seconds, own.nonfinite]
        fits = all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(arrays, expected, strict=True))
        if not (sealed and fits):
            raise CheckpointError(f"{path} is damaged (not as it was written); {cure}", path=path)
        return Cells(own.size, *arrays)

    def _save(self) -> None:
        write_with(self._path, self._write)

    def _write(self, temporary: Path) -> None:
        arrays = {name: getattr(self._own, name) for name in _ARRAYS}
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays, sha256=np.array(_digest(*arrays.values())))


def _remove_lock(path: Path) -> None:
    with suppress(OSError):  # Windows removes no file that a process has open
        path.unlink(missing_ok=True)


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
