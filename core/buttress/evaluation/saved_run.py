"""Weights that a run kept, with the numbers about them: the beginning of audits and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, extended
from buttress.evaluation.result_file import read_evaluation
from buttress.evaluation.subject import ModelUnderAttack, load_subject
from buttress.precision import FULL, Precision
from buttress.storage.files import finished_files
from buttress.storage.results import NOT_VERIFIED
from buttress.storage.run_folder import RunFolder
from buttress.training.records import read_metrics


class SavedRun(ModelUnderAttack):
    """One set of weights of a run, and the numbers that the run's folder holds about them."""

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home)

    def evaluations(self) -> list[dict[str, Any]]:
        """Results of ``buttress evaluate`` for these weights on the test split, the newest last.

        Results under another threat model, on other data or with another model than the run's own are left out; those
        of any precision are there. The key ``mark`` warns the reader of numbers that are not verified.

        Raises:
            CheckpointError: a file is damaged, so that a low number might be missing.
        """
        results = []
        wanted = {**self.facts, "split": "test"}
        del wanted["precision"]
        own = self.data.fingerprint["test"]
        for path in finished_files(self.folder.eval, "*.json"):
            try:
                result, verified = read_evaluation(path)
            except CheckpointError as problem:
                raise extended(problem, "; delete it, and evaluate again what it was about") from None
            if wanted.items() <= result.items() and result.get("fingerprint", own) == own:  # older versions wrote none
                samples = str(path.with_suffix(".npz"))  # also after the run was moved
                mark = "" if verified else NOT_VERIFIED
                results.append({"precision": FULL, **result, "samples": samples, "mark": mark})
        return results

    def own_result(self) -> dict[str, Any] | None:
        """The run's own evaluation of these weights on the test split: ``clean``, ``robust``, ``n``, and its ``mark``.

        The key ``precision`` says in which precision.

        Raises:
            CheckpointError: the metrics are damaged or edited.
        """
        metrics = read_metrics(self.folder)
        for number, record in enumerate(metrics.records):
            place = (record["event"], record.get("track"), record.get("split"), record.get("epoch"))
            if place == ("evaluation", self.track, "test", self.epoch):
                precision = Precision.read(self.file.config.precision).score
                return {**record, "precision": precision, "mark": metrics.mark_of(number)}
        return None


def load_run(path: Path, track: str = "live", checkpoint: str = "best", *, trust: bool = False) -> SavedRun:
    """A run's weights, in its model, beside its data; with ``trust``, also where code came with the run.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        RunFolderError, CheckpointError, ConfigError, PluginError, DataError: what was asked for is not there, or does
            not load any more.
    """
    return SavedRun(**vars(load_subject(path, track=track, checkpoint=checkpoint, trust=trust)))
