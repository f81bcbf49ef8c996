"""The runs of a comparison as jobs, and the work on one in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from buttress.comparing.board import listener_to
from buttress.components.own_modules import expect_unchanged
from buttress.components.plugins_file import PluginsFile, read_plugins_file
from buttress.config.file import ConfigFile, load_config
from buttress.config.yaml_source import YamlSource, parse_yaml, read_yaml
from buttress.console.output import error, exit_code_of
from buttress.console.reporter import Reporter
from buttress.errors import CheckpointError, RunFolderError
from buttress.evaluation.assess import assess
from buttress.evaluation.subject import load_subject
from buttress.launching.launcher import JOB_ID, Task
from buttress.launching.task_error import error_kept_in
from buttress.precision import FULL, Precision
from buttress.processes import Channel
from buttress.storage.differences import ABSENT, differences
from buttress.storage.leases import leased
from buttress.storage.results import read_object
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Share
from buttress.training.launch import continue_run, launch
from buttress.training.manifest import read_manifest
from buttress.training.named_files import expect_same_files
from buttress.training.summary_file import read_summary

_SCORES = TypeAdapter(dict[str, dict[str, dict[Literal["best", "last"], Share]]])

BUSY = 75
"""Exit code of a process whose run another process is working on: EX_TEMPFAIL of sysexits.h."""

# Keys of a config that no number depends on; of ``modules``, the manifest knows the files. ``name`` is that of the
# comparison, whose folder may be renamed.
_CHANGES_NOTHING = ("name", "loggers", "modules", "folder")
# Keys that configs of older versions lack, with the values that these have.
_LATER = {"precision": "float32", "compile": "off"}
# Longest value of a key in a message.
_LONGEST_VALUE = 100


@dataclass(frozen=True)
class Job:
    """One run, and the comparison's own attacks on its weights.

    Args:
        label: label of the variant.
        seed: seed of the run.
        path: path of its run folder, ``runs/<comparison>/<run>``.
        config: the resolved config, as YAML: that which was checked, whatever happens to the file meanwhile.
        attacks: attacks as in ``buttress evaluate --attack``.
        plugins_text: text of the config's ``plugins_file``, if it has one.
        code: sha256 of the files of the config's own code: what the comparison was started with may be executed.
    """

    label: str
    seed: int
    path: str
    config: str
    attacks: tuple[str, ...]
    plugins_text: str | None = None
    code: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"

    @property
    def precision(self) -> Precision:
        """The precision of its config."""
        return Precision.read(self._source.value.get("precision", FULL))

    @property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.path))

    @property
    def log(self) -> Path:
        """The file that its process writes all output to."""
        return self.folder.path.parent / "logs" / f"{self.folder.path.name}.log"

    @property
    def error_file(self) -> Path:
        """The file that holds the error of its process, where one has ended it."""
        return self.log.with_suffix(".error.json")

    @property
    def lease(self) -> Path:
        """The lease that the one process at work on it holds."""
        return self.log.with_suffix(".lease")

    @property
    def scores_file(self) -> Path:
        """The file of scores of the comparison's own attacks."""
        return self.folder.path / "compare.json"

    def task(self) -> Task:
        """The work on it, for a launcher."""
        return Task(str(self), work, asdict(self), self.log, self.error_file)

    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Attack to track to accuracy of the ``best`` and the ``last`` weights, as far as measured."""
        scores: dict[str, dict[str, dict[str, float]]] = {}
        if self.scores_file.exists():
            scores = read_object(self.scores_file, _SCORES, sealed=True).body
        return scores

    def is_done(self) -> bool:
        return self.folder.summary.exists() and set(self.attacks) <= set(self.scores())

    def file(self) -> ConfigFile:
        """The config of a run that is to be started."""
        if self.plugins_text is None:
            return ConfigFile(self._source)
        return ConfigFile(self._source, PluginsFile(Path(self._source.value["plugins_file"]), self.plugins_text))

    @property
    def runs_its_own_code(self) -> bool:
        """Whether the run in the folder would execute nothing but what the comparison was started with."""
        started_with = {*self.code, *(each.sha256 for each in self.file().own.calls)}
        return {each.sha256 for each in load_config(self.folder.config).own.needs_trust} <= started_with

    def check(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            RunFolderError: a run of another config, or no run at all.
        """
        folder, cure = self.folder, "choose another --name, or move that folder out of the comparison"
        if folder.config.is_file():
            there, expected = (without_idle_keys(each.value) for each in (read_yaml(folder.config), self._source))
            differing = [
                f"{key} is {_short(one)} there and {_short(other)} here"
                for key, one, other in differences(there, expected)
            ]
            if differing:
                raise RunFolderError(
                    f"{folder.path} holds a run of another config: {'; '.join(differing)}; {cure}", path=folder.path
                )
            name = expected.get("plugins_file")
            if name and read_plugins_file(folder.path / name).text != self.plugins_text:
                raise RunFolderError(f"{folder.path} holds a run of another {name}; {cure}", path=folder.path)
            with suppress(CheckpointError):  # a damaged manifest records nothing
                expect_unchanged(read_manifest(folder.manifest).origins, folder.path)
            expect_same_files(folder)
        elif folder.path.exists() and not folder.metrics.exists() and any(folder.path.iterdir()):
            raise RunFolderError(
                f"{folder.path} is no run folder, and a run is to live there; {cure}", path=folder.path
            )

    @property
    def _source(self) -> YamlSource:
        return parse_yaml(self.config, "config")


def without_idle_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the keys that no number depends on, and without later keys at the values of older versions."""
    kept = {
        key: value for key, value in config.items() if key not in _CHANGES_NOTHING and _LATER.get(key, ABSENT) != value
    }
    if isinstance(model := kept.get("model"), Mapping) and model.get("batch_norm") == "local":
        kept["model"] = {key: value for key, value in model.items() if key != "batch_norm"}
    return kept


def _short(value: object) -> str:
    text = "not set" if value is ABSENT else json.dumps(value)
    return textwrap.shorten(text, _LONGEST_VALUE, placeholder=" ...")


def work(order: Mapping[str, Any], channel: Channel) -> None:
    """Do one job, the fields of which are the order, in a process of its own, and tell the board by the channel."""
    job = Job(**{**order, **{key: tuple(order[key]) for key in ("attacks", "code")}})
    with leased(job.lease, job=os.environ.get(JOB_ID), lost=_give_way) as lease:
        if lease is None:
            sys.exit(BUSY)
        reporter = Reporter(listener=listener_to(channel, lease.note))
        sys.exit(exit_code_of(lambda: _keep_error(job, reporter)))


def _give_way() -> None:
    """End this process at once: another one has taken its run over, and two would spoil it."""
    error("this process seemed lost, and another one has taken over its run")
    os._exit(BUSY)


def _keep_error(job: Job, reporter: Reporter) -> None:
    with error_kept_in(job.error_file):
        _do(job, reporter)


def _do(job: Job, reporter: Reporter) -> None:
    job.check()  # another process may have begun it since the comparison looked
    folder = job.folder
    if folder.path.exists() and not folder.config.is_file():
        shutil.rmtree(folder.path)  # an older version was killed while it made the folder
    if not folder.path.exists():
        file = job.file()
        launch(file, folder.path.parent.parent, folder.path.name, forecast=False, reporter=reporter)
    elif not folder.summary.exists():
        continue_run(folder.path, reporter, trust=job.runs_its_own_code)
    tracks = [row["track"] for row in read_summary(folder.summary).body["tracks"]]
    for text in job.attacks:
        scores = job.scores()
        if text not in scores:
            scores[text] = {
                track: {which: _accuracy(job, text, track, which, reporter) for which in ("best", "last")}
                for track in tracks
            }
            write_sealed(job.scores_file, scores)


def _accuracy(job: Job, attack: str, track: str, which: str, reporter: Reporter) -> float:
    """Accuracy under ``attack`` alone, on every test example, as the run itself measures its own attack."""
    subject = load_subject(job.folder.path, track=track, checkpoint=which, trust=job.runs_its_own_code)
    accuracy: float = assess(subject, [attack], each=True, reporter=reporter)["attacks"][-1]["accuracy"]
    return accuracy
