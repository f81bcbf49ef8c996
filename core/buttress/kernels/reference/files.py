"""Fill rows of memory from files, one system call after another."""

import os
from collections.abc import Sequence


def read_rows(files: Sequence[int], offsets: Sequence[int], rows: Sequence[memoryview]) -> int:
    """Fill each row with its file's bytes from its offset on.

    Args:
        files: one descriptor for each row.
        offsets: likewise, in bytes.
        rows: writable memory.

    Returns:
        The number of rows filled, up to the first one that could not be: its file is too short, or the system refuses.
    """
    for count, (file, offset, row) in enumerate(zip(files, offsets, rows, strict=True)):
        if not _filled(file, offset, row):
            return count
    return len(rows)


def _filled(file: int, offset: int, row: memoryview) -> bool:
    while row:
        try:
            got = os.preadv(file, [row], offset)
        except OSError:
            return False
        if got == 0:
            return False
        row, offset = row[got:], offset + got
    return True
