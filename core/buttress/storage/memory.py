"""Memory that is free, so that a file that grows when it is read is refused before the system is out of it."""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Number of bytes that programs can still take without swapping; None where the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def expect_room(needed: int, what: str) -> None:
    """Refuse to read what does not fit.

    Args:
        needed: number of bytes that it takes in memory.
        what: what it is, for the message.

    Raises:
        ValueError: fewer bytes are free.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise ValueError(f"{what} take {needed / 1e9:,.1f} GB in memory, and {free / 1e9:,.1f} GB are free")
