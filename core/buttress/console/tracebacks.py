"""Tracebacks for authors: kept in the log of the run, or in a temporary file where there is no run folder yet."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import format_exception

from buttress.console.visible import visible
from buttress.errors import ButtressError, raising_line

# Number of temporary files with tracebacks that are kept, the newest.
_KEPT = 20
_POSIX = os.name == "posix"  # elsewhere every user has temporary files of their own


def traceback_of(problem: BaseException) -> str:
    """The whole traceback of an exception, with those of its causes, fit for a terminal."""
    return visible("".join(format_exception(problem)))


@contextmanager
def tracebacks_in(log: Path) -> Iterator[None]:
    """Append to the log of a run the traceback of an error that ends the block and shows an author's own code."""
    try:
        yield
    except ButtressError as problem:
        if problem.log is None and _shows_own_code(problem):
            with suppress(OSError), log.open("a", encoding="utf-8") as stream:
                stream.write(traceback_of(problem))
                problem.log = log
        raise


def note_of_traceback(problem: ButtressError) -> str:
    """A sentence that names the file with the traceback of an error; nothing for an error that shows no own code.

    Where the traceback is in no log yet, it is written into a new temporary file, and the oldest of those are removed.
    """
    if problem.log is None and _shows_own_code(problem):
        problem.log = _in_temporary_file(problem)
    return f"\n  The traceback is in {problem.log}" if problem.log else ""


def _shows_own_code(problem: ButtressError) -> bool:
    """Whether an author's own code has a part in an error. A mistyped key of a config needs no traceback."""
    cause: BaseException | None = problem
    while cause is not None:
        if getattr(cause, "place", "") or raising_line(cause):
            return True
        cause = cause.__cause__
    return False


def _in_temporary_file(problem: BaseException) -> Path | None:
    with suppress(OSError):
        folder = _own_folder()
        handle, name = tempfile.mkstemp(dir=folder, prefix="traceback-" if folder else "buttress-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(traceback_of(problem))
        if folder:
            _remove_old_ones(folder)
        return Path(name)
    return None


def _own_folder() -> Path | None:
    """The user's own folder among the temporary files; None where somebody else has put something of its name there."""
    folder = Path(tempfile.gettempdir(), f"buttress-{os.getuid() if _POSIX else 'tracebacks'}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()  # a link would lead to a folder of another's choice
    is_own = stat.S_ISDIR(status.st_mode) and (not _POSIX or status.st_uid == os.getuid())
    return folder if is_own else None


def _remove_old_ones(folder: Path) -> None:
    with suppress(OSError):  # another process removes some, too
        for old in sorted(folder.glob("traceback-*.log"), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
            old.unlink(missing_ok=True)
