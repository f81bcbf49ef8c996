"""Check names that come from files before they become part of a path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from buttress.errors import CheckpointError, RunFolderError
from buttress.storage.files import PLAIN_NAME

# Names that Windows takes for devices, whatever follows their first dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", flags=re.IGNORECASE)


def is_plain_name(name: object) -> bool:
    """Whether ``name`` is the name of a file in some folder on every system: no path, no dots at either end."""
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
        return False
    return not (name.endswith(".") or _DEVICES.fullmatch(name))


def expect_plain_name(name: object, source: Path) -> str:
    """A name that stands in the file ``source``.

    Raises:
        CheckpointError: it is no plain name.
    """
    if not isinstance(name, str) or not is_plain_name(name):
        raise CheckpointError(
            f"{source} names the file {name!r}: {_EXPECTED}; who wrote it may want to reach others", path=source
        )
    return name


def expect_inside(path: Path, folder: Path) -> Path:
    """Check that ``path`` lies in ``folder``, before anything there is written, linked or deleted; links are followed.

    Raises:
        RunFolderError: it leads out of ``folder``.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunFolderError(
            f"{path} leads out of {folder}, to {path.resolve()}; nothing has been written there", path=path
        )
    return path


_EXPECTED = "expected letters, digits, . _ - (no path)"


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(_EXPECTED)
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
"""For pydantic models: the name of a file, and no path."""
