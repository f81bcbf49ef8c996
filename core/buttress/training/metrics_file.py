"""``metrics.jsonl`` of a run: records are appended and counted, and cut back to those that a checkpoint knows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from buttress.storage.files import cut_to_lines, storage_errors
from buttress.storage.run_folder import counted_later, first_epoch


class MetricsFile:
    """One JSON object a line.

    Args:
        path: an existing file in a run folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._later = first_epoch(path.parent) - 1
        self.size, self._sha256 = 0, hashlib.sha256()
        self._expected = (0, "")

    @property
    def sha256(self) -> str:
        """Of all that has been written."""
        return self._sha256.hexdigest()

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record, epochs from 1; a run of an older format goes on counting as it began.

        Raises:
            StorageError: the disk is full or refuses, or the file has been removed with its folder.
        """
        line = f"{json.dumps(counted_later(record, self._later) if self._later else record)}\n".encode()
        with storage_errors(self._path), self._path.open("ab") as stream:
            stream.write(line)
        self.size += len(line)
        self._sha256.update(line)

    def sync(self) -> None:
        """Make the records durable, before a checkpoint counts them.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors(self._path), self._path.open("rb+") as stream:
            os.fsync(stream.fileno())

    def expect(self, size: int, sha256: str) -> None:
        """What the file was at the time of a checkpoint; format 1 did not know the sha256, which is then empty."""
        self._expected = (size, sha256)

    def cut(self, say: Callable[[str], None]) -> None:
        """Remove the records after those that are expected; ``say`` is told where these are not what they were.

        Raises:
            StorageError: the file cannot be read or cut.
        """
        path, (size, sha256) = self._path, self._expected
        with storage_errors(path):
            path.touch()
            found = path.stat().st_size
            if found > size:
                os.truncate(path, size)
        self.size = size if found >= size else cut_to_lines(path)
        with storage_errors(path):
            self._sha256 = hashlib.sha256(path.read_bytes())
        harmless = "training is not touched by it, and the evaluations are in the checkpoint"
        if found < size:
            say(f"{path} has lost its end: {found} of {size} bytes are left; {harmless}")
        elif sha256 and self.sha256 != sha256:
            say(f"{path} is damaged: its sha256 is not the recorded one; {harmless}")
