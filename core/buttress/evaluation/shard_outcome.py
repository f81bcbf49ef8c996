"""The end of one process's shard of an evaluation, and the line that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from buttress.scoring.cells import Shard

# Number of shards that a line names.
_NAMED = 5


@dataclass(frozen=True)
class ShardOutcome:
    """The end of one process's shard of an evaluation.

    Args:
        standing: ``completed`` by this process, which wrote the result; ``elsewhere``, completed by another one while
            this one was at work; ``known``, completed before this one began; ``partial``, where batches are missing.
        shard: the shard.
        folder: folder of the results.
        batches: number of batches of the whole evaluation, where some are missing.
        missing: numbers of those that no process has done yet.
        result: content of the JSON file; None where batches are missing.
    """

    standing: Literal["completed", "elsewhere", "known", "partial"]
    shard: Shard
    folder: Path
    batches: int = 0
    missing: Sequence[int] = ()
    result: dict[str, Any] | None = None

    @property
    def line(self) -> str:
        """A sentence about the state of the evaluation, for a process that does not show the result."""
        if self.result is not None:
            file = self.result["file"]
            if self.standing == "known":
                return f"evaluated already: {file}; delete it to evaluate again"
            return f"shard {self.shard} is done; another process has completed the evaluation: {file}"
        own = len(self.shard.batches(self.batches))
        beginning = f"shard {self.shard} is done" if own else f"shard {self.shard} has no batch"
        return (
            f"{beginning}; {len(self.missing)} of {self.batches} batches are missing in {self.folder} so far "
            f"({self._owners()}). The last process to finish there writes the result; when none is at work any more, "
            "the same command goes on, with any number of processes"
        )

    def _owners(self) -> str:
        indices = sorted({number % self.shard.count for number in self.missing})
        names = [str(Shard(index, self.shard.count)) for index in indices[:_NAMED]]
        more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
        return f"shard{'' if len(indices) == 1 else 's'} {', '.join(names)}{more}"

    def to_json(self) -> dict[str, Any]:
        """The content of the JSON file, or the state of the evaluation, whose ``file`` is null."""
        if self.result is not None:
            return self.result
        return {
            "shard": str(self.shard),
            "folder": str(self.folder),
            "batches": self.batches,
            "missing": list(self.missing),
            "file": None,
        }
