"""Verify files by their sha256, and read a file again only after somebody has written to it."""

from __future__ import annotations

from pathlib import Path
from time import time

from buttress.storage.reading import has_sha256

# Seconds. File systems note the time of a change this coarsely (FAT; ext4 takes milliseconds): a file that was changed
# more recently may be changed again without a trace, and is not remembered.
_COARSEST = 2.0

_Trace = tuple[int, ...]


class VerifiedFiles:
    """Remembers inode, size and times of each verified file, which show a change by anybody.

    Decay below the file system does not show in them. The next process that reads the file, to resume or to evaluate,
    detects it.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, _Trace]] = {}

    def has_sha256(self, path: Path, sha256: str) -> bool:
        """Whether a file has that sha256; computed again only where something has touched the file since.

        Raises:
            CheckpointError: it cannot be read.
        """
        now, trace = time(), _trace(path)
        if trace is not None and self._known.get(path) == (sha256, trace):
            return True
        self._known.pop(path, None)
        whole = has_sha256(path, sha256)
        if whole and trace is not None and now - max(trace[-2:]) / 1e9 > _COARSEST:
            self._known[path] = sha256, trace
        return whole


def _trace(path: Path) -> _Trace | None:
    try:
        status = path.stat()
    except OSError:  # reading it says what is wrong
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
