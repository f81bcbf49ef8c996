"""Append records to the ``metrics.jsonl`` of a run, and cut it back to those that a checkpoint knows."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from buttress.storage.files import link_file, storage_errors, write_bytes
from buttress.storage.reading import file_sha256, has_sha256
from buttress.storage.run_format import count_later, first_epoch


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
        """sha256 of everything that has been written."""
        return self._sha256.hexdigest()

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record, epochs from 1; a run of an older format goes on counting as it began.

        Raises:
            StorageError: the disk is full or refuses, or the file has been removed with its folder.
        """
        line = self._line(record)
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
        """Take the size and sha256 of the file at the time of a checkpoint; format 1 left the sha256 empty."""
        self._expected = (size, sha256)

    def put_back(self, evaluations: Sequence[Mapping[str, object]], say: Callable[[str], None]) -> bool:
        """Bring the file back to its expected content, and cut off later records.

        A damaged file is kept under another name, ``metrics.damaged.jsonl``. The new one has a record with the event
        ``rewritten``, and the evaluations.

        Args:
            evaluations: records of the checkpoint, epochs from 1.
            say: tells the user.

        Returns:
            Whether it was written anew.

        Raises:
            StorageError: the file cannot be read, cut or written.
        """
        path, (size, sha256) = self._path, self._expected
        with storage_errors(path):
            content = path.read_bytes() if path.exists() else b""
        fault = _fault(content, size, sha256)
        if fault:
            say(f"{path} {fault}; {self._write_anew(evaluations)}")
            return True
        with storage_errors(path):
            path.touch()
            if len(content) > size:
                os.truncate(path, size)
        self.size, self._sha256 = size, hashlib.sha256(content[:size])
        return False

    def _write_anew(self, evaluations: Sequence[Mapping[str, object]]) -> str:
        """Write the evaluations anew; returns a sentence for the user."""
        aside = self._set_aside()
        records: list[Mapping[str, object]] = [
            {"event": "rewritten", "damaged": aside.name if aside else None},
            *({"event": "evaluation", **record} for record in evaluations),
        ]
        lines = b"".join(self._line(record) for record in records)
        write_bytes(self._path, lines)
        self.size, self._sha256 = len(lines), hashlib.sha256(lines)
        kept = f"what is left of it is kept as {aside.name}, and " if aside else ""
        return f"{kept}its evaluations are written anew from the checkpoint; training is not touched by it"

    def _set_aside(self) -> Path | None:
        """A further name of the file, under which it stays; None where there is no file."""
        path = self._path
        if not path.exists():
            return None
        for number in itertools.count(1):
            name = f"metrics.damaged{f'-{number}' if number > 1 else ''}.jsonl"
            aside = path.with_name(name)
            if not aside.exists():
                link_file(path, aside)
            if has_sha256(aside, file_sha256(path)):  # a process that was killed may have come this far
                return aside
        raise AssertionError  # the numbers do not end

    def _line(self, record: Mapping[str, object]) -> bytes:
        return f"{json.dumps(count_later(record, self._later) if self._later else record)}\n".encode()


class UnwrittenMetrics(MetricsFile):
    """The metrics of a process that leaves writing to the main one."""

    def write(self, record: Mapping[str, object]) -> None:
        pass

    def sync(self) -> None:
        pass


def _fault(content: bytes, size: int, sha256: str) -> str:
    """The fault in the first ``size`` bytes of the file; empty where they are as expected."""
    if len(content) < size:
        return f"has lost its end: {len(content)} of {size} bytes are left"
    if sha256 and hashlib.sha256(content[:size]).hexdigest() != sha256:
        return "is damaged: its sha256 is not the recorded one"
    if size and content[size - 1 : size] != b"\n":  # format 1, which did not know the sha256
        return f"is damaged: no record ends at its byte {size}"
    return ""
