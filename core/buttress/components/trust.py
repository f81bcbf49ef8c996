"""The code of others that this user has trusted, remembered by the sha256 of every file. Loads no torch.

The memory is ``$XDG_CONFIG_HOME/buttress/trusted.json`` (``~/.config/buttress/trusted.json``). Deleting it forgets all.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from buttress.errors import StorageError, TrustError
from buttress.storage.regular_file import read_regular_file

logger = logging.getLogger("buttress")

FORMAT = 1
# Enough for some 50,000 entries; a larger file is not ours.
_MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class Code:
    """A file of code that a config would execute.

    Args:
        place: key of the config that names it: ``plugins_file``, ``model.target``.
        path: path of the file.
        sha256: digest of the bytes.
        size: number of bytes.
    """

    place: str
    path: Path
    sha256: str
    size: int

    @property
    def origin(self) -> str:
        """The name in the memory."""
        return str(self.path.resolve())

    def __str__(self) -> str:
        return f"{self.place}: {self.path} ({self.size:,} bytes, sha256 {self.sha256})"


@dataclass(frozen=True)
class Call:
    """A call of an installed target that a config would make; its args can make it do what a file of code does.

    Args:
        place: key of the config that names it: ``model.target``.
        target: ``package.module:Name``.
        args: arguments, as JSON.
    """

    place: str
    target: str
    args: str

    @property
    def sha256(self) -> str:
        """The digest of target and args."""
        return sha256(f"{self.target}({self.args})".encode()).hexdigest()

    @property
    def origin(self) -> str:
        """The name in the memory."""
        return self.target

    def __str__(self) -> str:
        return f"{self.place}: {self.target}, which is installed, with args {self.args} (sha256 {self.sha256})"


NeedsTrust = Code | Call


def memory() -> Path | None:
    """The file of the memory; None for a user without a home folder."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not given.is_absolute():  # as the XDG specification has it
        try:
            given = Path.home() / ".config"
        except RuntimeError:
            return None
    return given / "buttress" / "trusted.json"


def belongs_to_run(path: Path) -> bool:
    """Whether a file lies in a run folder; whoever made that run also made the file."""
    return any((each.parent / "manifest.json").exists() for each in (path, path.resolve()))


def untrusted(code: Iterable[NeedsTrust]) -> list[NeedsTrust]:
    """Those entries of ``code`` that the user has not trusted yet."""
    listed = list(code)
    known = _remembered() if listed else {}
    return [each for each in listed if each.sha256 not in known]


def expect_trusted(who: str, needed: Sequence[NeedsTrust], everything: Sequence[NeedsTrust]) -> None:
    """Refuse to execute code that has not been trusted.

    Args:
        who: name of the config, for messages.
        needed: code that is about to be executed.
        everything: code that ``--trust`` would trust.

    Raises:
        TrustError: some of the code has not been trusted; names all of that.
    """
    missing = untrusted(needed)
    if not missing:
        return
    places = " and ".join(dict.fromkeys(each.place for each in missing))
    listed = "\n".join(f"  {each}" for each in untrusted(everything))
    where = memory()
    came = f"It came with a run, as the manifest.json beside {who} says. " if belongs_to_run(Path(who)) else ""
    kept = f"; {where} then remembers each sha256, and the question does not come again" if where else ""
    raise TrustError(
        f"{who}: {places} would execute code that you have not trusted yet:\n{listed}\n"
        f"{came}Read it, and if you trust it, give the same command again with --trust{kept}"
    )


def remember(code: Iterable[NeedsTrust]) -> None:
    """Trust this code from now on; a memory that cannot be written is a warning."""
    new, path = untrusted(code), memory()
    if not new or path is None:
        return
    from buttress.storage.files import write_json  # with torch
    from buttress.storage.locks import locked

    now = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        with locked(path.with_suffix(".lock"), wait=True):
            known = _remembered() | {each.sha256: {"file": each.origin, "since": now} for each in new}
            write_json(path, {"format": FORMAT, "trusted": known})
    except StorageError as problem:
        logger.warning("what is trusted cannot be remembered: %s", problem)


def _remembered() -> dict[str, Any]:
    """The entries of the memory by sha256; none if it is missing or damaged."""
    path = memory()
    content: Any = None
    if path is not None:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(read_regular_file(path, _MAX_BYTES))
    trusted = content.get("trusted") if isinstance(content, dict) and content.get("format") == FORMAT else None
    return trusted if isinstance(trusted, dict) else {}
