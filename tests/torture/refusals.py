"""Disks and folders that refuse: one loud error, a non-zero exit code, and what was saved before is untouched."""

import ctypes
import io
import os
import random
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from buttress.cli import main
from buttress.console.reporter import Reporter
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder

from .report import Section
from .resume_points import fingerprint
from .small import quickly, resume, small_config, start

Hindrance = Callable[[Path], AbstractContextManager[Any]]
"""Makes the run folder refuse, within a with block."""


@dataclass(frozen=True)
class Case:
    """One refusal.

    Args:
        hindrance: what is wrong while ``buttress resume`` runs.
        exit_code: that it must have.
        words: that its message must hold.
    """

    hindrance: Hindrance
    exit_code: int
    words: tuple[str, ...]


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """No file may grow beyond ``limit`` bytes, as when the disk is full in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _mode(path: Path, mode: int) -> Iterator[None]:
    """Other permissions, which the superuser obeys too for once."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with _no_superpowers():
            yield
    finally:
        path.chmod(before)


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def _no_superpowers() -> Iterator[None]:
    """Take CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (bits 1 and 2) from this thread; see capabilities(7)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    data = (_Capabilities * 2)()
    libc.capget(header, data)
    before = data[0].effective
    data[0].effective = before & ~0b110
    libc.capset(header, data)
    try:
        yield
    finally:
        data[0].effective = before
        libc.capset(header, data)


@contextmanager
def _at_step(count: int, act: Callable[[], object]) -> Iterator[None]:
    """``act`` after ``count`` further steps of training."""
    advance, left = Reporter.advance, [count]

    def acting(self: Reporter, description: str) -> None:
        advance(self, description)
        left[0] -= 1
        if left[0] == 0:
            act()

    with patch.object(Reporter, "advance", acting):
        yield


def _full(run: Path) -> AbstractContextManager[None]:
    """Full when the tensors of the next checkpoint are half written; smaller files still fit."""
    largest = max(path.stat().st_size for path in run.glob("checkpoints/*.safetensors"))
    return _small_files(largest - 100)


def _full_at_once(run: Path) -> AbstractContextManager[None]:
    """Nothing can be added any more: to the log, which ends no work, nor to the metrics, which does."""
    with (run / "log.txt").open("a") as stream:
        stream.write("-" * 200 + "\n")
    return _small_files(200)


def _deleted(steps: int) -> Hindrance:
    return lambda run: _at_step(steps, lambda: shutil.rmtree(run))


def _replaced(run: Path) -> AbstractContextManager[None]:
    def act() -> None:
        run.rename(run.with_name("away"))
        shutil.copytree(run.with_name("away"), run)

    return _at_step(3, act)


def _in_use(run: Path) -> AbstractContextManager[None]:
    return RunFolder(run).held()


CASES = {
    "the disk fills up within a checkpoint": Case(_full, 1, ("cannot write", "what was saved before is intact")),
    "the disk is full already": Case(_full_at_once, 1, ("cannot write", "manifest.json", "free some space")),
    "the run folder is read-only": Case(lambda run: _mode(run, 0o555), 1, ("cannot write", "Permission denied")),
    "its checkpoints are read-only": Case(
        lambda run: _mode(run / "checkpoints", 0o555), 1, ("cannot write", "checkpoints", "Permission denied")
    ),
    "its metrics are read-only": Case(
        lambda run: _mode(run / "metrics.jsonl", 0o444), 1, ("cannot write", "metrics.jsonl", "Permission denied")
    ),
    "the run folder cannot be entered": Case(
        lambda run: _mode(run, 0o000), 2, ("cannot be read", "Permission denied", "check its permissions")
    ),
    "its checkpoints cannot be listed": Case(
        lambda run: _mode(run / "checkpoints", 0o000), 2, ("checkpoints", "cannot be read", "Permission denied")
    ),
    "its config cannot be read": Case(lambda run: _mode(run / "config.yaml", 0o000), 2, ("Permission denied",)),
    "it is deleted within an epoch": Case(_deleted(1), 1, ("cannot write", "No such file or directory")),
    "it is deleted with the last step of an epoch": Case(_deleted(2), 1, ("cannot write", "No such file")),
    "another folder takes its place": Case(_replaced, 1, ("has been replaced by another folder",)),
    "another process is at work there": Case(_in_use, 2, ("a process is at work there",)),
}


def stopped_run(work: Path) -> Path:
    """A run with a history on disk, stopped after 10 of 16 steps; ``whole`` beside it was never stopped."""
    file = small_config(work, ["fgsm", {"meat": {"start": 1}}])
    start(file, work / "whole")
    start(file, work / "stopped", 10)
    return work / "stopped"


def refuse(stopped: Path, case: Case) -> list[str]:
    """Resume a copy while something is wrong, then once more when it no longer is; what went wrong, a line each."""
    with tempfile.TemporaryDirectory(dir=stopped.parent) as scratch:
        run = Path(scratch) / "run"
        shutil.copytree(stopped, run)
        before, said = _checkpoints(run), io.StringIO()
        with quickly(), redirect_stdout(io.StringIO()), redirect_stderr(said), case.hindrance(run):
            code = main(["resume", str(run)])
        wrong, lines = [], [line for line in said.getvalue().strip().splitlines() if not line.endswith(" ...")]
        message = "\n".join(lines)  # without what the command was doing meanwhile: "loading the data: npz ..."
        if code != case.exit_code or len(lines) != 1:
            wrong.append(f"expected exit code {case.exit_code} and one line, got {code} and {message!r}")
        wrong += [f"no {word!r} in: {message}" for word in case.words if word not in message]
        for left in (path for path in Path(scratch).iterdir() if (path / "config.yaml").exists()):
            if not before.items() <= _checkpoints(left).items():
                wrong.append(f"checkpoints were {sorted(before)}, are {sorted(_checkpoints(left))}")
            resume(left)
            expected, found = fingerprint(stopped.with_name("whole")), fingerprint(left)
            wrong += [f"resumed afterwards: {key} differs" for key in expected if expected[key] != found.get(key)]
    return wrong


def _checkpoints(run: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in (run / "checkpoints").glob("step-*.*") if path.is_file()}


def section(work: Path, rng: random.Random) -> Section:
    stopped = stopped_run(work)
    lost = [f"{name}: {line}" for name, case in CASES.items() for line in refuse(stopped, case)]
    return Section(
        "Refusing disks and folders",
        "`buttress resume` while " + "; ".join(CASES) + ". Each is to be one line that names the place and the cure, "
        "and a non-zero exit code; checkpoints are to stay as they were, and a resume afterwards, where the folder is "
        "still there, is to equal the uninterrupted run.",
        [("situations", len(CASES)), ("silent, unclear or harmful", len(lost))],
        lost,
    )
