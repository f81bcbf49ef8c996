"""What a report is made of: everything that run folders hold, and which runs are one method over seeds."""

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
from buttress.errors import CheckpointError, RunFolderError, TrustError
from buttress.evaluation.result_file import read_evaluation
from buttress.scoring.attacks import name_of_entry
from buttress.storage.files import finished_files
from buttress.storage.fingerprints import Fingerprint
from buttress.storage.results import NOT_VERIFIED, Result
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed
from buttress.training.existing import existing_folder
from buttress.training.records import Metrics, read_metrics
from buttress.training.same_data import recorded_data
from buttress.training.selection import Record, Row, scored, summarize

_Found = TypeVar("_Found")


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
        folder: of the run.
        config: with every default filled in.
        drops: epochs at which the learning rate drops.
        attack: name of the attack of the run's own evaluations.
        trained: every epoch that it has trained.
        records: its own evaluations; rows: best, last and diff of every track; both empty before the first one.
        caution: says which of the records nobody vouches for, and which were lost; empty where there are none.
        evaluations: the files of ``buttress evaluate``, oldest first, each with its ``mark``: what a reader has to be
            told, nothing where the file is verified.
        audit: the findings of ``buttress audit`` with their marks, or None.
        analysis: the numbers of ``buttress analyze`` by file stem, with their marks.
        manifest: what the run depends on besides its config.
        damaged: files of results that cannot be read, with the reason; they are left out.
    """

    folder: RunFolder
    config: Config
    drops: list[int]
    attack: str
    trained: list[Trained]
    records: list[Record]
    rows: list[Row]
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

    def examples(self, split: str) -> Fingerprint | None:
        """The fingerprint of a split; None for a run of a version that recorded none."""
        return (recorded_data(self.manifest) or {}).get(split)


@dataclass(frozen=True)
class Method:
    """Runs of one config, each with a seed of its own.

    Args:
        label: name of the method.
        runs: one for each seed, in the order of the seeds.
        repeated: further runs of the same seeds, which are no further samples: they are named, and in no mean.
    """

    label: str
    runs: list[Run]
    repeated: list[Run] = field(default_factory=list)

    @property
    def tracks(self) -> list[str]:
        """In the order of the summary, the live model first."""
        return list(dict.fromkeys(row.track for run in self.runs for row in run.rows))

    def analysed(self, prefix: str) -> list[tuple[Run, dict[str, Any]]]:
        """Findings whose file begins with ``prefix``, of the first run that has some; in the order of the tracks."""
        order = {track: position for position, track in enumerate(self.tracks)}
        for run in self.runs:
            found = [numbers for stem, numbers in run.analysis.items() if stem.startswith(prefix)]
            if found:
                return [(run, each) for each in sorted(found, key=lambda each: order.get(each.get("track", ""), 0))]
        return []


def read_run(path: Path) -> Run:
    """Everything that a report shows of a run.

    Raises:
        RunFolderError: no run folder.
        CheckpointError: its metrics are damaged or edited.
        ConfigError: its config cannot be read.
    """
    folder = existing_folder(path, runs_code=False)
    file = load_config(folder.config)
    config = file.config
    metrics = read_metrics(folder)
    records = scored(metrics.evaluations, config.evaluation.best_by)
    damaged: list[str] = []
    manifest = _or_none(read_sealed, folder.manifest, damaged) or {}
    return Run(
        folder=folder,
        config=config,
        drops=_drops(file, manifest),
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


def methods(runs: Sequence[Run]) -> list[Method]:
    """Runs whose configs differ in nothing but the seed, together; in the order in which they were given.

    A seed counts once: copies of a run, and further runs of a seed, are no independent samples.

    Raises:
        RunFolderError: a run is given twice.
    """
    seen: set[Path] = set()
    groups: dict[str, list[Run]] = {}
    for run in runs:
        path = run.folder.path.resolve()
        if path in seen:
            raise RunFolderError(f"{run.folder.path} is given twice; name every run once")
        seen.add(path)
        key = json.dumps(run.config.model_dump(exclude={"seed"}), sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    labels = _labels([own[0] for own in groups.values()])
    return [_method(label, own) for label, own in zip(labels, groups.values(), strict=True)]


def _method(label: str, runs: Sequence[Run]) -> Method:
    """Of several runs of a seed, the one that has come furthest counts; of equals the first given."""
    counted: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: -max((record.epoch for record in run.records), default=0)):
        counted.setdefault(run.config.seed, run)
    chosen = [counted[seed] for seed in sorted(counted)]
    return Method(label, chosen, [run for run in runs if run is not counted[run.config.seed]])


def repeated_seeds(found: Sequence[Method]) -> list[str]:
    """A line about every run that is left out because its seed counts already."""
    return [
        f"{run.name}, since {counted.name} has its config and its seed {run.config.seed} too"
        for method in found
        for run in method.repeated
        for counted in method.runs
        if counted.config.seed == run.config.seed
    ]


def different_examples(found: Sequence[Method]) -> bool:
    """Whether runs of one seed were tested on different examples, as far as their manifests tell."""
    by_seed: dict[int, list[Fingerprint]] = {}
    for run in (run for method in found for run in method.runs):
        examples = run.examples("test")
        if examples is not None:
            by_seed.setdefault(run.config.seed, []).append(examples)
    return any(examples != same[0] for same in by_seed.values() for examples in same)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The shortest kind of name that tells them apart: the config's, the folder's without its seed, the path."""
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


def _drops(file: ConfigFile, manifest: Mapping[str, Any]) -> list[int]:
    """As the run has recorded them; of an older run none, where only code that came with it could tell."""
    recorded, epochs = manifest.get("drops"), file.config.epochs
    if isinstance(recorded, list) and all(type(each) is int and 0 <= each <= epochs for each in recorded):
        return recorded
    try:
        return file.schedule()[0].drops(epochs)
    except TrustError:
        return []


def _unverified(metrics: Metrics) -> str:
    """A sentence about the evaluations that nobody vouches for; empty where there are none."""
    found = metrics.unverified
    if not found:
        return ""
    first = min(record.epoch for record in found)
    return f"evaluations from epoch {first} on: {metrics.mark_of(metrics.verified)}"


def _rewritten(metrics: Metrics) -> str:
    """A sentence about a metrics file that was damaged; empty where it was not."""
    found = metrics.events("rewritten")
    kept = f" (see {found[-1]['damaged']})" if found and found[-1].get("damaged") else ""
    return f"losses before its metrics file was damaged and written anew are missing{kept}" if found else ""


def _marked(folder: Path, read: Callable[[Path], Result], damaged: list[str]) -> dict[str, dict[str, Any]]:
    """File stem to what a folder's JSON files hold, with its mark; what is damaged is left out, and named."""
    found = {path.stem: _or_none(read, path, damaged) for path in finished_files(folder, "*.json")}
    return {
        stem: {**each.body, "mark": "" if each.verified else NOT_VERIFIED}
        for stem, each in found.items()
        if each is not None
    }


def _or_none(read: Callable[[Path], _Found], path: Path, damaged: list[str]) -> _Found | None:
    """What is read, or None where the file is damaged, which is named."""
    try:
        return read(path)
    except CheckpointError as problem:
        damaged.append(str(problem))
        return None
