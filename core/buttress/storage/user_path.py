"""Paths as people write them."""

import os
from pathlib import Path


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user means by ``text``: ``~`` and ``~name`` at its beginning are home folders, as in a shell.

    Every path of a command line, a config or a setting comes through here before anything is opened. Where nobody is
    called ``name``, the path stays as it is written.
    """
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path
