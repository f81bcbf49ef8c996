"""Leases: locks that survive a lost machine. Their holder shows signs of life; without them, others take over.

A lock of the kernel may stay for ever on a shared file system whose client has gone, or be seen by one machine alone.
A lease is a file with a number, ``run.lease.3``: who makes the next number holds it, and making a file succeeds for one
process only. The holder rewrites its file every few seconds. A holder of this machine is lost when its process has
ended; one of another machine when its file has not changed for minutes, by the clock of the file system, and then for
a while more, by the clock of the process that wants it: no two machines' clocks are compared, and a clock that is set
anew takes no lease away. A holder that finds a later number has lost the lease.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic, sleep

from buttress.storage.files import make_folder, storage_errors
from buttress.storage.holders import Holder, own_holder

BEAT = 10.0
"""Seconds between the signs of life of a holder."""
SILENCE = 120.0
"""Seconds without a sign of life after which a holder on another machine is lost; news may take 60."""

# Seconds between two tries of somebody who waits.
_AGAIN = 0.1


class Lease:
    """A lease that this process holds.

    Args:
        path: path of the lease.
        number: number that this process has made.
        holder: this process.
    """

    def __init__(self, path: Path, number: int, holder: Holder) -> None:
        self._path, self._number, self._holder = path, number, holder
        self._ended = threading.Event()

    def begin(self) -> None:
        """Write who holds the lease, and remove what former holders have left.

        Raises:
            OSError: it cannot be written; nobody holds it then.
        """
        try:
            self._write()
        except OSError:
            _file(self._path, self._number).unlink(missing_ok=True)
            raise
        left = [_file(self._path, number) for number in _numbers(self._path) if number < self._number]
        for file in [*left, *self._path.parent.glob(f".{self._path.name}-*")]:
            file.unlink(missing_ok=True)

    def note(self, doing: str, share: float, left: float | None) -> None:
        """Describe the work at the next sign of life: what is done, the share that is done, seconds left."""
        self._holder = replace(self._holder, doing=doing, share=share, left=left)

    def is_held(self) -> bool:
        """Whether nobody has taken it over."""
        return _latest_number(self._path) == self._number

    def live(self, beat: float, lost: Callable[[], None]) -> None:
        """Show signs of life until ``end``; call ``lost`` once where somebody has taken over."""
        while not self._ended.wait(beat):
            with suppress(OSError):  # a full disk, or a server that is away for a while
                if not self.is_held():
                    lost()
                    return
                self._holder = replace(self._holder, beats=self._holder.beats + 1)
                self._write()

    def end(self) -> None:
        """End the signs of life."""
        self._ended.set()

    def release(self) -> None:
        """Give it up."""
        with suppress(OSError):
            if self.is_held():
                self._holder = replace(self._holder, released=True)
                self._write()

    def _write(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}-{self._holder.token}")
        temporary.write_text(json.dumps(asdict(self._holder)), encoding="utf-8")
        temporary.replace(_file(self._path, self._number))


@contextmanager
def leased(
    path: Path,
    *,
    wait: bool = False,
    job: str | None = None,
    lost: Callable[[], None] | None = None,
    beat: float = BEAT,
    silence: float = SILENCE,
) -> Iterator[Lease | None]:
    """Hold a lease within the block.

    Args:
        path: path of the lease, whose files get numbers; its folder is made.
        wait: whether to wait for the process that holds it.
        job: id of this process's job in a queue that carries it out once at a time. A holder of the same job is its
            former try: it need not have been silent for long.
        lost: called, in another thread, where somebody has taken the lease over because this process seemed lost. By
            default nothing is done.
        beat: seconds between signs of life.
        silence: seconds without one after which a holder on another machine is lost.

    Yields:
        The lease, or None where another process holds it, which happens only without ``wait``.

    Raises:
        StorageError: a file cannot be made.
    """
    with storage_errors(path):
        make_folder(path.parent)
        lease = _taken(path, job, beat, silence)
        while lease is None and wait:
            sleep(_AGAIN)
            lease = _taken(path, job, beat, silence)
    if lease is None:
        yield None
        return
    thread = threading.Thread(target=lease.live, args=(beat, lost or (lambda: None)), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.end()
        thread.join()
        lease.release()


def holder_of(path: Path, now: float | None = None, silence: float = SILENCE) -> Holder | None:
    """The process that holds a lease; None where none does, or the one that did is lost.

    Args:
        path: path of the lease.
        now: time to compare signs of life with; by default that of the file system, for which a file is made a moment.
        silence: as in ``leased``.
    """
    holder = last_holder(path)
    if holder is None or holder.released or (holder.is_here and not holder.is_alive):
        return None
    if holder.is_here:
        return holder
    age = _age(_file(path, _latest_number(path)), now)
    return holder if age is None or age <= silence else None


def last_holder(path: Path) -> Holder | None:
    """The last process that held a lease, whatever has become of it; None where none ever did."""
    number = _latest_number(path)
    return _read(_file(path, number)) if number else None


def _taken(path: Path, job: str | None, beat: float, silence: float) -> Lease | None:
    """The lease, taken now, or None where somebody holds it."""
    while True:
        number = _latest_number(path)
        if number and not _is_free(_file(path, number), job, beat, silence):
            return None
        try:
            descriptor = os.open(_file(path, number + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:  # somebody else was quicker
            continue
        os.close(descriptor)
        lease = Lease(path, number + 1, own_holder(job))
        if not lease.is_held():  # what was looked at was no longer the latest
            _file(path, number + 1).unlink(missing_ok=True)
            continue
        lease.begin()
        return lease


def _is_free(file: Path, job: str | None, beat: float, silence: float) -> bool:
    """Whether the holder of the latest number has given up or is lost; watches it where only silence tells."""
    holder = _read(file)
    if holder is not None and holder.released:
        return True
    if holder is not None and holder.is_here:
        return not holder.is_alive
    age = _age(file)
    is_former_try = holder is not None and holder.job is not None and holder.job == job
    if age is not None and 0 <= age <= silence and not is_former_try:
        return False
    # It seems lost, or the clock of the file system has been set back: now the clock of this process decides.
    end, before = monotonic() + (silence if age is not None and age < 0 else 2 * beat), _trace(file)
    while monotonic() < end:
        sleep(min(beat, 1.0))
        if _trace(file) != before:
            return False
    return True


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _numbers(path: Path) -> list[int]:
    beginning = f"{path.name}."
    try:
        names = [each.name for each in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    ends = (name.removeprefix(beginning) for name in names if name.startswith(beginning))
    return [int(end) for end in ends if end.isascii() and end.isdecimal()]


def _latest_number(path: Path) -> int:
    """The latest number of a lease, 0 where nobody ever held it."""
    return max(_numbers(path), default=0)


def _read(file: Path) -> Holder | None:
    """The holder in a file; None where it is just being made, or damaged."""
    try:
        return Holder(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _trace(file: Path) -> tuple[int, int] | None:
    """Identity and time of change of a file; None where it has gone."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _age(file: Path, now: float | None = None) -> float | None:
    """Seconds since a file was changed, by the clock of its file system or before ``now``; None where it has gone."""
    try:
        changed = file.stat().st_mtime
    except FileNotFoundError:
        return None
    if now is None:
        probe = file.with_name(f".now-{secrets.token_hex(8)}")
        try:
            probe.write_text("now", encoding="utf-8")
            now = probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    return now - changed
