"""The material of a report: the contents of run folders, and the runs that are one method over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from buttress.analysis.answer_files import read_answer
from buttress.audit.audit_file import read_audit
from buttress.config.file import ConfigFile, load_config
from buttress.config.schema import Config
from buttress.errors import CheckpointError, ConfigError, RunFolderError, TrustError
from buttress.evaluation.result_file import read_evaluation
from buttress.precision import Precision
from buttress.scoring.attacks import name_of_entry
from buttress.storage.files import finished_files
from buttress.storage.fingerprints import Fingerprint
from buttress.storage.results import NOT_VERIFIED, Content
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed
from buttress.training.existing import existing_folder
from buttress.training.records import Metrics, read_metrics
from buttress.training.same_data import recorded_data
from buttress.training.selection import Record, TrackSummary, fully_scored, summarize

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Trained:
    """One epoch of training: its number, from 1; the mean training loss in nats; the learning rate of its last step."""

    epoch: int
    loss: float
    lr: float


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Args:
        folder: run folder.
        config: config of the run, with every default filled in.
        drops: times, in epochs, at which the learning rate drops.
        attack: name of the attack of the run's own evaluations.
        trained: all epochs that have been trained.
        records: evaluations in training; empty before the first one.
        rows: best, last and diff of every track; empty before the first evaluation.
        caution: text about records that are not verified or were lost; empty where there are none.
        evaluations: results of ``buttress evaluate``, oldest first, each with its ``mark``: a warning for the reader,
            empty where the file is verified.
        audit: findings of ``buttress audit`` with their marks, or None.
        analysis: numbers of ``buttress analyze`` by file stem, with their marks.
        manifest: record of everything besides its config that the run depends on.
        damaged: lines about files of results that cannot be read and are left out, with the reason.
    """

    folder: RunFolder
    config: Config
    drops: Sequence[float]
    attack: str
    trained: list[Trained]
    records: list[Record]
    rows: list[TrackSummary]
    caution: str
    evaluations: list[dict[str, Any]]
    audit: list[dict[str, Any]] | None
    analysis: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    damaged: list[str]

    @property
    def name(self) -> str:
        """``"demo/20260101-120000"``: the last two parts of the path."""
        return "/".join(self.folder.path.resolve().parts[-2:])

    @property
    def precision(self) -> Precision:
        """The precision of its attacks, of its training and of its evaluations."""
        return Precision.read(self.config.precision)

    def examples(self, split: str) -> Fingerprint | None:
        """The fingerprint of a split; None for a run of a version that recorded none."""
        return (recorded_data(self.manifest) or {}).get(split)


@dataclass(frozen=True)
class RunsOfConfig:
    """Runs of one config, each with a seed of its own.

    Args:
        label: name of the method.
        runs: one run for each seed, in the order of the seeds.
        repeated: further runs of the same seeds, which are no further samples: they are named, but in no mean.
    """

    label: str
    runs: list[Run]
    repeated: list[Run] = field(default_factory=list)

    @property
    def tracks(self) -> list[str]:
        """All tracks in the order of the summary, the live model first."""
        return list(dict.fromkeys(row.track for run in self.runs for row in run.rows))

    def analysed(self, prefix: str) -> list[tuple[Run, dict[str, Any]]]:
        """Findings in files that begin with ``prefix``, in the order of the tracks, of the first run that has any."""
        order = {track: position for position, track in enumerate(self.tracks)}
        for run in self.runs:
            findings = [numbers for stem, numbers in run.analysis.items() if stem.startswith(prefix)]
            if findings:
                return [(run, each) for each in sorted(findings, key=lambda each: order.get(each.get("track", ""), 0))]
        return []


def read_run(path: Path) -> Run:
    """Read all that a report shows about one run: config, metrics, evaluations and analyses.

    Raises:
        RunFolderError: the path is no run folder.
        CheckpointError: the metrics are damaged or edited.
        ConfigError: the config cannot be read.
    """
    folder = existing_folder(path, runs_code=False)
    file = load_config(folder.config)
    config = file.config
    metrics = read_metrics(folder)
    records = fully_scored(metrics.evaluations, config.evaluation.best_by)
    damaged: list[str] = []
    manifest = _or_none(read_sealed, folder.manifest, damaged) or {}
    return Run(
        folder=folder,
        config=config,
        drops=drops_of(file, manifest),
        attack=name_of_entry(config.evaluation.attack),
        trained=[Trained(line["epoch"], line["loss"], line["lr"]) for line in metrics.events("epoch")],
        records=records,
        rows=summarize(records, config.evaluation.best_by) if records else [],
        caution="; ".join(filter(None, (_unverified(metrics), _rewritten(metrics)))),
        evaluations=list(_marked(folder.eval, read_evaluation, damaged).values()),
        audit=_or_none(read_audit, folder.audit, damaged) if folder.audit.exists() else None,
        analysis=_marked(folder.analysis, read_answer, damaged),
        manifest=manifest,
        damaged=damaged,
    )


def group_runs(runs: Sequence[Run]) -> list[RunsOfConfig]:
    """The methods of some runs, in the order in which they were given: runs of one method differ in the seed only.

    A seed counts once: copies of a run, and further runs of a seed, are no independent samples.

    Raises:
        RunFolderError: a run is given twice.
    """
    seen: set[Path] = set()
    groups: dict[str, list[Run]] = {}
    for run in runs:
        path = run.folder.path.resolve()
        if path in seen:
            raise RunFolderError(f"{run.folder.path} is given twice; name every run once", path=run.folder.path)
        seen.add(path)
        key = json.dumps(run.config.model_dump(exclude={"seed"}), sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    labels = _labels([own[0] for own in groups.values()])
    return [_method(label, own) for label, own in zip(labels, groups.values(), strict=True)]


def _method(label: str, runs: Sequence[Run]) -> RunsOfConfig:
    """A method of which each seed counts once, by the run that has come furthest, or the first of equal ones."""
    counted: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: -max((record.epoch for record in run.records), default=0)):
        counted.setdefault(run.config.seed, run)
    chosen = [counted[seed] for seed in sorted(counted)]
    return RunsOfConfig(label, chosen, [run for run in runs if run is not counted[run.config.seed]])


def repeated_seeds(methods: Sequence[RunsOfConfig]) -> list[str]:
    """A line about every run that is left out because its seed counts already."""
    return [
        f"{run.name}, since {counted.name} has its config and its seed {run.config.seed} too"
        for method in methods
        for run in method.repeated
        for counted in method.runs
        if counted.config.seed == run.config.seed
    ]


def different_examples(methods: Sequence[RunsOfConfig]) -> bool:
    """Whether runs of one seed were tested on different examples, as far as their manifests tell."""
    by_seed: dict[int, list[Fingerprint]] = {}
    for run in (run for method in methods for run in method.runs):
        examples = run.examples("test")
        if examples is not None:
            by_seed.setdefault(run.config.seed, []).append(examples)
    return any(examples != same[0] for same in by_seed.values() for examples in same)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The shortest kind of name that tells the runs apart: name of the config, of the folder without its seed, path."""
    kinds: list[Callable[[Run], str]] = [
        lambda run: run.config.name,
        lambda run: re.sub(r"-s\d+$", "", run.folder.path.resolve().name),
        lambda run: run.name,
        lambda run: str(run.folder.path.resolve()),
    ]
    for kind in kinds:
        labels = [kind(run) for run in runs]
        if len(set(labels)) == len(labels):
            break
    return labels


def drops_of(file: ConfigFile, manifest: Mapping[str, Any]) -> Sequence[float]:
    """Drops as the run has recorded them; those of an older run are asked of its schedule, where that may be made."""
    recorded, epochs = manifest.get("drops"), file.config.epochs
    latest = epochs or file.config.steps or 0  # an epoch has a step at least
    if isinstance(recorded, list) and all(type(each) in (int, float) and 0 <= each <= latest for each in recorded):
        return recorded
    if epochs is None:
        return []
    try:
        return file.schedule(epochs)[0].drops(epochs)
    except (TrustError, ConfigError):  # older versions took times after the end
        return []


def _unverified(metrics: Metrics) -> str:
    """A sentence about the evaluations that are not verified; empty where there are none."""
    records = metrics.unverified
    if not records:
        return ""
    first = min(record.epoch for record in records)
    return f"evaluations from epoch {first} on: {metrics.mark_of(metrics.verified)}"


def _rewritten(metrics: Metrics) -> str:
    """A sentence about a metrics file that was damaged; empty where it was not."""
    events = metrics.events("rewritten")
    kept = f" (see {events[-1]['damaged']})" if events and events[-1].get("damaged") else ""
    return f"losses before its metrics file was damaged and written anew are missing{kept}" if events else ""


def _marked(folder: Path, read: Callable[[Path], Content], damaged: list[str]) -> dict[str, dict[str, Any]]:
    """File stem to the contents of each JSON file in a folder, with its mark; damaged files are left out and named."""
    results = {path.stem: _or_none(read, path, damaged) for path in finished_files(folder, "*.json")}
    return {
        stem: {**each.body, "mark": "" if each.verified else NOT_VERIFIED}
        for stem, each in results.items()
        if each is not None
    }


def _or_none(read: Callable[[Path], _Result], path: Path, damaged: list[str]) -> _Result | None:
    """The result of ``read``; or None where the file is damaged, with a line about it in ``damaged``."""
    try:
        return read(path)
    except CheckpointError as problem:
        damaged.append(str(problem))
        return None
