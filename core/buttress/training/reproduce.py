"""Run the config of a run again, compare the numbers, and name possible causes of differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buttress.config.file import load_config
from buttress.errors import CheckpointError, WorkError
from buttress.storage.differences import difference_lines
from buttress.storage.files import finished_files
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.storage.run_format import first_epoch
from buttress.storage.seals import expect_whole, read_sealed, write_sealed
from buttress.training.existing import existing_folder
from buttress.training.launch import start
from buttress.training.records import read_metrics

# Keys of a manifest on which numbers may depend.
_ENVIRONMENT = (
    "buttress",
    "python",
    "packages",
    "platform",
    "hardware",
    "kernels",
    "git",
    "plugins",
    "hooks",
    "data",
    "modules",
    "files",
)

# The keys of a metrics record that say where it stands.
_PLACE = ("event", "epoch", "global_step", "track", "split")


@dataclass(frozen=True)
class Reproduction:
    """Common parts of a run and its repetition, and their differences.

    Args:
        original: run folder.
        repeated: run folder.
        records: number of metrics records that were compared.
        first_difference: the first record that differs and its difference, or an empty text.
        weights: number of weights files that were compared.
        different_weights: names of the files whose bytes differ.
        environment: ``"packages.torch: 2.10.0, now 2.11.0"`` for every difference of the manifests.
        notes: parts that could not be compared.
    """

    original: Path
    repeated: Path
    records: int
    first_difference: str
    weights: int
    different_weights: Sequence[str]
    environment: Sequence[str]
    notes: Sequence[str]

    @property
    def equal(self) -> bool:
        return not self.first_difference and not self.different_weights

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "original": str(self.original), "repeated": str(self.repeated), "equal": self.equal}

    def __str__(self) -> str:
        same = f"all {self.records} metrics records and {self.weights} weights files are equal, to the last bit"
        lines = [f"{self.repeated} against {self.original}: " + (same if self.equal else "not the same")]
        if self.first_difference:
            lines.append(f"first difference: {self.first_difference}")
        if self.different_weights:
            lines.append(f"weights that differ: {', '.join(self.different_weights)}")
        lines += [f"environment: {line}" for line in self.environment] or ["environment: the same"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def reproduce(path: Path, runs: Path, run: str | None = None, *, trust: bool = False) -> Reproduction:
    """Run the config of ``path`` again, with its seed, into a new run folder, and compare.

    Data are looked up where they were, then in the working folder; weights to start from in the working folder.

    Args:
        path: run folder of the original, finished or not.
        runs: folder of all runs.
        run: name of the new run folder, or None for the time.
        trust: execute the code that came with the run, and remember it as trusted.

    Returns:
        The comparison, also in ``reproduction.json`` of the new folder.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        InputError: ``path`` is no run folder, its metrics or weights are damaged, its config does not run here, or its
            data are others now.
        WorkError: the new run could not go on.
    """
    original = existing_folder(path)
    read_metrics(original)  # what is damaged is refused now, not after hours of training
    for weights in _kept(original):
        expect_whole(weights)
    file = load_config(original.config, trust=trust)
    repeated = start(file, runs, run, same_data_as=original)
    assert repeated is not None  # it is for a dry run alone
    repeated.finish()
    result = compare_runs(original, repeated.folder)
    write_sealed(repeated.folder.path / "reproduction.json", result.to_json())
    return result


def expect_equal(result: Reproduction) -> None:
    """Refuse a repetition that came out differently.

    Raises:
        WorkError: it did.
    """
    if not result.equal:
        raise WorkError(f"{result.original} was not reproduced: {result.first_difference or 'weights differ'}")


def compare_runs(original: RunFolder, repeated: RunFolder) -> Reproduction:
    """Compare metrics, weights and manifests of two run folders."""
    notes: list[str] = []
    before, after = _lines(original, notes), _lines(repeated, notes)
    if not original.summary.is_file():
        notes.append(f"{original.path} has not finished: compared as far as its metrics go")
        after = after[: len(before)]
    weights = _kept(original)
    different = [file.name for file in weights if not _same(file, repeated.weights / file.name)]
    return Reproduction(
        original.path,
        repeated.path,
        min(len(before), len(after)),
        first_difference(before, after),
        len(weights),
        different,
        list(difference_lines(_environment(original, notes), _environment(repeated, notes))),
        notes,
    )


def first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    """The first difference of two lists of metrics records (lines of JSON); empty where there is none."""
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        if old == new:
            continue
        try:
            one, two = json.loads(old), json.loads(new)
        except ValueError:
            return f"metrics record {number}: {old!r}, now {new!r}"
        if one != two:
            place = ", ".join(f"{key} {one[key]}" for key in _PLACE if key in one)
            return f"metrics record {number} ({place}): {'; '.join(difference_lines(one, two))}"
    if len(before) != len(after):
        return f"{len(before)} metrics records, now {len(after)}"
    return ""


def _environment(folder: RunFolder, notes: list[str]) -> dict[str, Any]:
    try:
        manifest = read_sealed(folder.manifest)
        return {key: manifest.get(key) for key in _ENVIRONMENT}
    except CheckpointError:
        notes.append(f"{folder.manifest} is damaged: what its run depended on is not known")
        return {}


def _lines(folder: RunFolder, notes: list[str]) -> list[str]:
    """The records, as they are written."""
    if not folder.metrics.is_file():
        return []
    metrics = read_metrics(folder)
    if metrics.verified < len(metrics.records):
        notes.append(f"{folder.metrics}, from record {metrics.verified + 1} on: {metrics.mark_of(metrics.verified)}")
    if first_epoch(folder.path) == 0:  # an older run, which counts epochs otherwise
        return [json.dumps(record) for record in metrics.records]
    return metrics.lines


def _kept(folder: RunFolder) -> list[Path]:
    """The weights files of a finished run."""
    return finished_files(folder.weights, "*.safetensors") if folder.summary.is_file() else []


def _same(one: Path, two: Path) -> bool:
    return two.is_file() and file_sha256(one) == file_sha256(two)
