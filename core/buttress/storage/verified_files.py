"""Files that were compared with their sha256 in this process: not read again while nobody has written to them."""

from __future__ import annotations

from pathlib import Path
from time import time

from buttress.storage.files import has_sha256

# Seconds. File systems note the time of a change this coarsely (FAT; ext4 takes milliseconds): a file that was changed
# more recently may be changed again without a trace, and is not remembered.
_COARSEST = 2.0

_Trace = tuple[int, ...]


class VerifiedFiles:
    """Remembers of each verified file what a change by anybody leaves a trace in: inode, size and times.

    What decays below the file system leaves none. The process that reads the file next, to resume or to evaluate, finds
    it.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, _Trace]] = {}

    def has_sha256(self, path: Path, sha256: str) -> bool:
        """As ``files.has_sha256``, by whose word where nothing has touched the file since.

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
        found = path.stat()
    except OSError:  # reading it says what is wrong
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
