"""The error of a task as data: a JSON file beside its log, for the process that started it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buttress.console.tracebacks import note_of_traceback
from buttress.console.visible import visible
from buttress.errors import (
    ButtressError,
    CheckpointError,
    DivergenceError,
    HookError,
    InterruptionError,
    StorageError,
    describe,
)
from buttress.storage.files import storage_errors, write_json
from buttress.storage.reading import read_json

# Key of the mark of an error of the training itself.
_TRAINING = "training"


@contextmanager
def error_kept_in(path: Path) -> Iterator[None]:
    """Write the exception that ends the block into ``path``, and raise it again; an older file there is removed.

    A request to stop is no error, and is not written.

    Raises:
        StorageError: the older file cannot be removed.
    """
    with storage_errors(path):
        path.unlink(missing_ok=True)
    try:
        yield
    except InterruptionError:
        raise
    except Exception as problem:
        with suppress(StorageError):  # the disk may be what has failed
            of_training = isinstance(problem, (DivergenceError, HookError))
            write_json(path, {"error": visible(_words_of(problem)), _TRAINING: of_training})
        raise


def _words_of(problem: Exception) -> str:
    return f"{problem}{note_of_traceback(problem)}" if isinstance(problem, ButtressError) else describe(problem)


def kept_error(path: Path) -> str | None:
    """The message in the file of ``error_kept_in`` as one line; None where there is none that can be read."""
    try:
        content = read_json(path)
    except CheckpointError:
        return None
    message = content.get("error") if isinstance(content, dict) else None
    return " ".join(line.strip() for line in message.splitlines()) if isinstance(message, str) else None


def is_of_training(path: Path) -> bool:
    """Whether the error in the file of ``error_kept_in`` is one of training itself: it diverged, or a plugin raised."""
    try:
        content = read_json(path)
    except CheckpointError:
        return False
    return isinstance(content, dict) and content.get(_TRAINING) is True
