"""Which code of others this user has trusted: remembered by the sha256 of every file, on this machine. Loads no torch.

The memory is ``$XDG_CONFIG_HOME/buttress/trusted.json`` (``~/.config/buttress/trusted.json``). Delete it to forget all.
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
# Some 50,000 files; a larger one is not ours.
_MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class Code:
    """A file of code that a config would execute.

    Args:
        place: what names it in the config: ``plugins_file``, ``model.target``.
        path: of the file.
        sha256: of its bytes.
        size: number of its bytes.
    """

    place: str
    path: Path
    sha256: str
    size: int

    @property
    def origin(self) -> str:
        """What the memory calls it."""
        return str(self.path.resolve())

    def __str__(self) -> str:
        return f"{self.place}: {self.path} ({self.size:,} bytes, sha256 {self.sha256})"


@dataclass(frozen=True)
class Call:
    """A call of something installed that a config would make: with its args, an importer can do what a file does.

    Args:
        place: what names it in the config: ``model.target``.
        target: ``package.module:Name``.
        args: as JSON.
    """

    place: str
    target: str
    args: str

    @property
    def sha256(self) -> str:
        """Of target and args."""
        return sha256(f"{self.target}({self.args})".encode()).hexdigest()

    @property
    def origin(self) -> str:
        """What the memory calls it."""
        return self.target

    def __str__(self) -> str:
        return f"{self.place}: {self.target}, which is installed, with args {self.args} (sha256 {self.sha256})"


Asked = Code | Call


def memory() -> Path | None:
    """The file that remembers what is trusted; None for a user without a home folder."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not given.is_absolute():  # as the XDG specification has it
        try:
            given = Path.home() / ".config"
        except RuntimeError:
            return None
    return given / "buttress" / "trusted.json"


def belongs_to_run(path: Path) -> bool:
    """Whether a file lies in a run folder, and is therefore the word of whoever made that run."""
    return any((each.parent / "manifest.json").exists() for each in (path, path.resolve()))


def untrusted(code: Iterable[Asked]) -> list[Asked]:
    """Those that have not been trusted."""
    asked = list(code)
    known = _remembered() if asked else {}
    return [each for each in asked if each.sha256 not in known]


def expect_trusted(who: str, needed: Sequence[Asked], all_of_it: Sequence[Asked]) -> None:
    """Refuse to execute what has not been trusted.

    Args:
        who: what names the code, for messages.
        needed: what is about to be executed.
        all_of_it: what ``--trust`` would trust.

    Raises:
        TrustError: some of it has not been trusted; names all of that.
    """
    missing = untrusted(needed)
    if not missing:
        return
    places = " and ".join(dict.fromkeys(each.place for each in missing))
    listed = "\n".join(f"  {each}" for each in untrusted(all_of_it))
    where = memory()
    came = f"It came with a run, as the manifest.json beside {who} says. " if belongs_to_run(Path(who)) else ""
    kept = f"; {where} then remembers each sha256, and the question does not come again" if where else ""
    raise TrustError(
        f"{who}: {places} would execute code that you have not trusted yet:\n{listed}\n"
        f"{came}Read it, and if you trust it, give the same command again with --trust{kept}"
    )


def remember(code: Iterable[Asked]) -> None:
    """Trust these from now on; where the memory cannot be written, that is said and nothing else happens."""
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
    """sha256 to what is known of the file; of a memory that is missing or damaged, nothing."""
    path = memory()
    found: Any = None
    if path is not None:
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(read_regular_file(path, _MAX_BYTES))
    trusted = found.get("trusted") if isinstance(found, dict) and found.get("format") == FORMAT else None
    return trusted if isinstance(trusted, dict) else {}
