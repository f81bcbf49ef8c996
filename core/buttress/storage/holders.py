"""The holders of leases: processes, and whether they are still there."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Args:
        host: name of its machine.
        pid: number of its process.
        job: id of its job in a queue, or None.
        since: time at which it took the lease, by its own clock, for people.
        doing: description of its work.
        share: share of the work that is done.
        left: seconds of work left, or None.
        machine: identity of its machine and boot, within which process numbers mean something.
        began: mark of the process's beginning, since numbers are used again; empty where the system has none.
        token: identity of this holding.
        beats: number of signs of life.
        released: whether it has given the lease up.
    """

    host: str
    pid: int
    job: str | None
    since: str
    doing: str = "starting"
    share: float = 0.0
    left: float | None = None
    machine: str = ""
    began: str = ""
    token: str = ""
    beats: int = 0
    released: bool = False

    @property
    def is_here(self) -> bool:
        """Whether its process can be asked for on this machine."""
        return self.machine == machine_identity() and os.name == "posix"

    @property
    def is_alive(self) -> bool:
        """Whether its process, on this machine, is still there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            pass
        return beginning_of(self.pid) == self.began

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}{f', job {self.job}' if self.job else ''}"


def own_holder(job: str | None) -> Holder:
    """This process as a holder, with the id of its job in a queue."""
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        job=job,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine_identity(),
        began=beginning_of(os.getpid()),
        token=secrets.token_hex(8),
    )


@cache
def machine_identity() -> str:
    """Identity of this machine, its boot and its space of process numbers: containers share names."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def beginning_of(pid: int) -> str:
    """Mark of the beginning of a process; empty where the system has none."""
    if sys.platform != "linux":
        return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "gone"
    return "gone" if fields[0] in ("Z", "X") else fields[19]
