"""Compare the memory that a file needs with the memory that is free, before the file is read."""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Number of bytes that programs can still take without swapping; None where the system does not tell."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(match[1]) if match else None


def expect_room(needed: int, name: str) -> None:
    """Refuse to read contents that do not fit into memory.

    Args:
        needed: number of bytes that they take in memory.
        name: plural name of the contents, for the message.

    Raises:
        ValueError: fewer bytes are free.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise ValueError(f"{name} take {needed / 1e9:,.1f} GB in memory, and {free / 1e9:,.1f} GB are free")
