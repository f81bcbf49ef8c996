"""The weights that a run kept, with what is known about them: what audits and exports start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError
from buttress.evaluating.subject import Subject, load_subject
from buttress.storage.files import read_json, write_json
from buttress.storage.run_folder import RunFolder, read_metrics


class SavedRun(Subject):
    """One set of weights of a run, and the numbers that the run's folder holds about them."""

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home)

    def evaluations(self) -> list[dict[str, Any]]:
        """Results of ``buttress evaluate`` for these weights on the test split, the newest last.

        Those under another threat model, on other data or with another model than the run's own are left out.

        Raises:
            CheckpointError: a file is damaged, so that a low number might be missing.
        """
        found = []
        wanted, own = {**self.facts, "split": "test"}, self.data.fingerprint["test"]
        for path in sorted(self.folder.eval.glob("*.json")):
            try:
                result = read_json(path)
            except CheckpointError as problem:
                raise CheckpointError(f"{problem}; delete it, and evaluate again what it was about") from None
            known = isinstance(result, dict) and wanted.items() <= result.items()
            if known and result.get("fingerprint", own) == own:  # older versions wrote none
                found.append({**result, "samples": str(path.with_suffix(".npz"))})  # also after the run was moved
        return found

    def findings(self) -> list[dict[str, Any]]:
        """What ``buttress audit`` found for these weights; empty without an audit."""
        return [row for row in self._every_finding() if self._audited.items() <= row.items()]

    def keep_findings(self, findings: Sequence[Mapping[str, str]]) -> None:
        """Write an audit of these weights to ``audit.json``, beside those of other tracks and checkpoints."""
        others = [row for row in self._every_finding() if (row.get("track"), row.get("checkpoint")) != self._which]
        write_json(self.folder.audit, [*others, *({**row, **self._audited} for row in findings)])

    @property
    def _which(self) -> tuple[str | None, str | None]:
        return self.track, self.checkpoint

    @property
    def _audited(self) -> dict[str, Any]:
        return {key: self.facts[key] for key in ("track", "checkpoint", "epoch", "weights_sha256")}

    def _every_finding(self) -> list[dict[str, Any]]:
        """Of every track and checkpoint that has been audited; a damaged file counts as none."""
        try:
            rows = read_json(self.folder.audit)
        except CheckpointError:
            return []
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def own_result(self) -> dict[str, Any] | None:
        """The run's own evaluation of these weights on the test split: ``clean``, ``robust``, ``n``."""
        wanted = {"event": "evaluation", "track": self.track, "split": "test", "epoch": self.epoch}
        records = read_metrics(self.folder.metrics)
        return next((record for record in records if wanted.items() <= record.items()), None)


def load_run(path: Path, track: str = "live", checkpoint: str = "best", *, trust: bool = False) -> SavedRun:
    """A run's weights, in its model, beside its data; with ``trust``, also where code came with the run.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        RunFolderError, CheckpointError, ConfigError, PluginError, DataError: what was asked for is not there, or does
            not load any more.
    """
    return SavedRun(**vars(load_subject(path, track=track, checkpoint=checkpoint, trust=trust)))
