"""Processes killed with SIGKILL while they save: the newest checkpoint and the best weights are always whole."""

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from buttress.config.file import ConfigFile
from buttress.errors import CheckpointError
from buttress.storage import files
from buttress.storage.reading import has_sha256
from buttress.storage.seals import read_weights
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint
from buttress.training.selection import Record, best_epoch

from .report import Section
from .resume_points import fingerprint
from .small import resume, small_config, start

# Longest wait between the start of a write and the kill, in seconds: a few times what a write takes.
_LONGEST = 0.05

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.torture.warm"])


@dataclass
class Tally:
    """What the kills left."""

    kills: int = 0
    unfinished: int = 0
    finished_runs: int = 0
    lost: list[str] = field(default_factory=list)


def kill_runs(work: Path, rng: random.Random, kills: int) -> Tally:
    """Kill ``kills`` processes that train and save all the time; each next one goes on with what the last one left."""
    tally, number = Tally(), 0
    reference = work / "whole"
    _child(_start, reference).join()
    expected = fingerprint(reference)
    while tally.kills < kills:
        run = work / f"run-{number}"
        _until_done(run, rng, tally, kills)
        if tally.kills < kills or _finish(run):
            tally.finished_runs += 1
            tally.lost += [f"run {number}: the next start left {path}" for path, _ in sorted(_leftovers(run))]
            tally.lost += [
                f"run {number}: {key} differs from the run that was never killed"
                for key, value in fingerprint(run).items()
                if expected.get(key) != value
            ]
        shutil.rmtree(run)
        number += 1
    return tally


def _until_done(run: Path, rng: random.Random, tally: Tally, kills: int) -> None:
    """Start and resume the run until it ends, or ``kills`` kills have been made."""
    while tally.kills < kills:
        resumable = bool(list_checkpoints(run / "checkpoints"))
        if run.exists() and not resumable:  # killed before the checkpoint of step 0: begun anew
            shutil.rmtree(run)
        before = _leftovers(run)
        process, writes = _spawn(_resume if resumable else _start, run)
        if not _killed(process, writes, rng):
            return
        tally.kills += 1
        tally.unfinished += bool(_leftovers(run))
        tally.lost += [f"kill {tally.kills}: {line}" for line in _examine(run)]
        kept = before & _leftovers(run)
        if kept and resumable and writes.heard:  # it had begun to train: the start was behind it
            tally.lost.append(f"kill {tally.kills}: the next start left {', '.join(path for path, _ in sorted(kept))}")


def _examine(run: Path) -> list[str]:
    """What is wrong in the folder of a run that was just killed: it may be behind, and nothing in it is half."""
    wrong = []
    for path in list_checkpoints(run / "checkpoints"):
        try:
            state = load_checkpoint(path)
        except CheckpointError as problem:
            wrong.append(f"unreadable checkpoint: {problem}")
            continue
        wrong += _lost_best(run, path, state)
    for path in files.finished_files(run / "weights", "*.safetensors"):
        try:
            read_weights(path)
        except CheckpointError as problem:
            wrong.append(f"unreadable weights: {problem}")
    return wrong


def _lost_best(run: Path, checkpoint: Path, state: dict[str, Any]) -> list[str]:
    """A checkpoint finds the best weights of its own time, even where a later epoch has replaced them."""
    records, wrong = [Record(**record) for record in state["records"]], []
    for track in dict.fromkeys(record.track for record in records):
        name, best = f"best-{track}.safetensors", best_epoch(records, track, "validation")
        for path in (run / "weights" / name, checkpoint.with_suffix(".weights") / name):
            try:
                if has_sha256(path, state["weights"][name]) and read_weights(path)[1]["epoch"] == best - 1:
                    break
            except (CheckpointError, KeyError):
                continue
        else:
            wrong.append(f"lost best: {checkpoint.stem} has no weights of epoch {best} of track {track}")
    return wrong


def _leftovers(run: Path) -> set[tuple[str, int]]:
    """Temporary files, and parts of checkpoints without their JSON; with their times, as the next process killed may
    leave one of the same name.
    """
    hidden = [path for path in run.rglob(".*") if path.is_file()]
    parts = [path for path in run.glob("checkpoints/step-*") if not path.with_suffix(".json").exists()]
    return {(str(path), path.stat().st_mtime_ns) for path in (*hidden, *parts)}


# Processes


class _Writes:
    """Hears from a process when it begins to write a file."""

    def __init__(self, ear: Connection) -> None:
        self._ear, self.heard = ear, 0

    def wait(self, count: int) -> bool:
        """Until ``count`` files have been begun; False when the process ended before."""
        while self.heard < count:
            try:
                self._ear.recv_bytes()
            except EOFError:
                return False
            self.heard += 1
        return True


def _spawn(target: Callable[..., None], run: Path) -> tuple[Any, _Writes]:
    ear, mouth = _processes.Pipe(duplex=False)
    process = _processes.Process(target=target, args=(str(run), mouth))
    process.start()
    mouth.close()
    return process, _Writes(ear)


def _killed(process: Any, writes: _Writes, rng: random.Random) -> bool:
    """Kill it a moment after it began to write one of its next files; False when it ended by itself before."""
    if writes.wait(rng.randint(1, 40)):
        time.sleep(rng.uniform(0.0, _LONGEST))
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        raise RuntimeError(f"the process to be killed ended with exit code {process.exitcode}")
    return bool(process.exitcode == -9)


def _child(target: Callable[..., None], run: Path) -> Any:
    process = _processes.Process(target=target, args=(str(run), None))
    process.start()
    return process


def _finish(run: Path) -> bool:
    """Resume to the end, unkilled; False where there is nothing to go on from."""
    if not list_checkpoints(run / "checkpoints"):
        return False
    process = _child(_resume, run)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{run}: the resumed run ended with exit code {process.exitcode}")
    return True


def _config(work: Path) -> ConfigFile:
    """Saves and scores after every epoch of four steps, with a history on disk and three tracks beside the live one."""
    stack = ["fgsm", {"meat": {"start": 1}}, {"ema": {"tau": 0.5}}, {"swa": {"start": 2}}]
    each = {"evaluation": {"every": 1, "attack": {"fgsm": {}}}, "checkpoint": {"every": 1, "keep": 2}}
    return small_config(work, stack, epochs=12, **each)


def _start(run: str, mouth: Connection | None) -> None:
    _prepare(mouth)
    start(_config(Path(run).parent), Path(run))


def _resume(run: str, mouth: Connection | None) -> None:
    _prepare(mouth)
    resume(Path(run))


def _prepare(mouth: Connection | None) -> None:
    """One thread, silence, and a word to ``mouth`` before every file that is written atomically."""
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if mouth is None:
        return
    temporary = files._temporary

    def heard(path: Path) -> Path:
        mouth.send_bytes(b"w")
        return temporary(path)

    files._temporary = heard


def section(work: Path, rng: random.Random, kills: int = 200) -> Section:
    found = kill_runs(work, rng, kills)
    return Section(
        "Killed while saving",
        "Processes that train four steps an epoch and save after each (four tracks, a history on disk, two checkpoints "
        "kept), killed with SIGKILL up to 50 ms after one of their next 40 writes has begun. After each kill every "
        "checkpoint, its best weights and every weights file are read and verified; the next process resumes what is "
        "there. Runs that reach their end are compared by sha256 with one that was never killed.",
        [
            ("processes killed", found.kills),
            ("kills that left an unfinished file", found.unfinished),
            ("unreadable checkpoints", sum("unreadable checkpoint" in line for line in found.lost)),
            ("lost or unreadable best weights", sum("weights" in line for line in found.lost)),
            ("leftovers that survived the next start", sum("next start" in line for line in found.lost)),
            ("runs finished and compared", found.finished_runs),
            ("of them different", sum("differs" in line for line in found.lost)),
        ],
        found.lost,
    )
