"""The weights that a run kept, with what is known about them: what audits and exports start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buttress.files import read_json
from buttress.run_folder import RunFolder, read_metrics
from buttress.subject import Subject, load_subject


class SavedRun(Subject):
    """One set of weights of a run, and the numbers that the run's folder holds about them."""

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home)

    def results(self) -> list[dict[str, Any]]:
        """What ``buttress evaluate`` found for these weights on the test split, the newest last.

        Each is a row with ``attack``, ``accuracy``, ``low``, ``high`` and ``n``, the ``seed`` of the evaluation, and
        ``after``: whether the accuracy is that of the worst case over this attack and others before it.
        """
        found = []
        wanted = {"track": self.track, "checkpoint": self.checkpoint, "epoch": self.epoch, "split": "test"}
        for path in sorted(self.folder.eval.glob("*.json")):
            result = read_json(path)
            if isinstance(result, dict) and wanted.items() <= result.items():
                for position, row in enumerate(result["attacks"]):  # the first is the clean one
                    after = position > 1 and row["attacked"] < row["n"]
                    found.append({"seed": result["seed"], "after": after, **row})
        return found

    def own_result(self) -> dict[str, Any] | None:
        """The run's own evaluation of these weights on the test split: ``clean``, ``robust``, ``n``."""
        wanted = {"event": "evaluation", "track": self.track, "split": "test", "epoch": self.epoch}
        records = read_metrics(self.folder.metrics)
        return next((record for record in records if wanted.items() <= record.items()), None)


def load_run(path: Path, track: str = "live", checkpoint: str = "best") -> SavedRun:
    """A run's weights, in its model, beside its data.

    Raises:
        RunFolderError, CheckpointError, ConfigError, PluginError, DataError: what was asked for is not there, or does
            not load any more.
    """
    return SavedRun(**vars(load_subject(path, track=track, checkpoint=checkpoint)))
