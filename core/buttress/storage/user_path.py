"""Paths as people write them."""

import os
from contextlib import suppress
from pathlib import Path

from buttress.errors import PathError

# Bytes of one name in a path and of all of it, as Linux and macOS allow them.
_LONGEST_NAME, _LONGEST = 255, 4095
# Characters of a name that a message shows.
_SHOWN = 40


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user means by ``text``: ``~`` and ``~name`` at its beginning are home folders, as in a shell.

    Every path of a command line, a config or a setting comes through here before anything is opened. Where nobody is
    called ``name``, the path stays as it is written.

    Raises:
        PathError: no file can have such a path.
    """
    path = Path(text)
    with suppress(RuntimeError):
        path = path.expanduser()
    for name in path.parts:
        _expect_name(name)
    if len(os.fsencode(path)) > _LONGEST:
        raise PathError(f"{_short(str(path))}: expected a path of at most {_LONGEST:,} bytes; choose a shorter one")
    return path


def _expect_name(name: str) -> None:
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        raise PathError(f"{_short(name)}: expected a text, got half of a character in it; correct the path") from None
    if b"\0" in encoded:
        raise PathError(f"{_short(name)}: expected a name without null characters; correct the path")
    if len(encoded) > _LONGEST_NAME:
        raise PathError(
            f"{_short(name)}: expected a name of at most {_LONGEST_NAME} bytes, got {len(encoded):,}; shorten it"
        )


def _short(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
