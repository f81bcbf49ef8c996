"""Compare the surroundings of a resume with those of the start: say and record changes, refuse other plugin code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from buttress.errors import CheckpointError, RunFolderError
from buttress.kernels import status
from buttress.storage.differences import ABSENT, difference_line, differences
from buttress.storage.run_folder import RunFolder
from buttress.training.manifest import (
    CodeRecord,
    Continuation,
    Manifest,
    hardware,
    read_manifest,
    record_continuation,
)

# Distributions whose plugins may change: later versions of buttress go on with the runs of earlier ones.
_OWN = ("buttress", None)
_THREADS = "hardware.torch_threads"


class Surroundings:
    """Versions, hardware and plugins, as they are now and as they were when the run was started.

    Args:
        folder: folder of the run; nothing is compared where its manifest is damaged.
        code: origins of the code of its plugins and attack losses, as they are now (``code_records``).
    """

    def __init__(self, folder: RunFolder, code: Mapping[str, Any]) -> None:
        self._folder = folder
        try:
            self._before: Manifest | None = read_manifest(folder.manifest)
        except CheckpointError:  # has been named
            self._before = None
        changes = [] if self._before is None else list(_changes(self._before, code))
        self.differences = [line for _, line in changes]
        """``"packages.torch: "2.10.0", now "2.11.0""`` for everything that has changed."""
        self._code = [line for key, line in changes if self._before and _is_foreign_code(key, self._before)]

    def expect_same_code(self, accept: bool) -> None:
        """Refuse to go on with other code of plugins than the run was started with.

        Args:
            accept: whether to go on with other code; it is not asked for what was accepted before.

        Raises:
            RunFolderError: names the plugins.
        """
        accepted = [each for each in self._before.continued if each.accepted] if self._before else []
        if accept or not self._code or any(set(self._code) <= set(each.differences) for each in accepted):
            return
        raise RunFolderError(
            f"{self._folder.path} was started with other code of its plugins: {'; '.join(self._code)}. Install what it "
            f"was started with, or go on with what is there now: buttress resume {self._folder.path} --accept-changes",
            path=self._folder.path,
        )

    def say(self, say: Callable[[str], None]) -> None:
        """Tell the user every difference."""
        if self._before is None:
            say(f"{self._folder.manifest} is damaged: under which versions and threads the run began is not known")
        for line in self.differences:
            note = ""
            if line.startswith(f"{_THREADS}: "):
                note = f"; for equality to the last bit set OMP_NUM_THREADS={line.split()[1].rstrip(',')}"
            say(f"changed since the run was started: {line}{note}")

    def record(self, accepted: bool) -> None:
        """Add this resume to the manifest.

        Raises:
            StorageError: the disk is full or refuses; the manifest is as it was.
        """
        if self._before is None:
            return
        entry = Continuation(
            resumed=datetime.now().astimezone().isoformat(timespec="seconds"),
            command=sys.argv,
            differences=self.differences,
            accepted=accepted and bool(self._code),
        )
        record_continuation(self._folder.manifest, entry)


def _changes(before: Manifest, code: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Place and line of every difference from the manifest; values that an old manifest does not record are skipped."""
    now: dict[str, Any] = {**hardware(), "kernels": status(), **code}
    recorded = before.model_dump(include=set(now), exclude={"plugins": {"__all__": {"settings"}}}, exclude_unset=True)
    for key, then, value in differences(recorded, now):
        if then is not ABSENT:
            yield key, difference_line(key, then, value)


def _is_foreign_code(key: str, before: Manifest) -> bool:
    """Whether the place is the code of a plugin or an attack loss that is no part of buttress."""
    section, _, rest = key.partition(".")
    records: Mapping[str, Mapping[str, CodeRecord]] = {
        "plugins": before.plugins,
        "attack_losses": before.attack_losses,
    }
    record = records.get(section, {}).get(rest.rpartition(".")[0])
    return record is not None and record.distribution not in _OWN
