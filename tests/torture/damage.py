"""Files of a run flipped, cut and removed: whatever reads them says so, and nothing is loaded silently."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buttress.checkpoint import list_checkpoints, load_checkpoint
from buttress.errors import ButtressError
from buttress.run_folder import existing_folder
from buttress.seals import read_sealed, read_weights
from buttress.store import DiskHistory

from .report import Section
from .resume_points import fingerprint
from .small import resume, small_config, start

Reader = Callable[[], Sequence[str]]
"""Reads a file as buttress does: raises an error of buttress, or returns what it said."""


@dataclass
class Tally:
    """What was tried and what went unnoticed."""

    flips: int = 0
    truncations: int = 0
    resumes: int = 0
    lost: list[str] = field(default_factory=list)


def finished_run(work: Path) -> Path:
    """A small run with a history on disk, three tracks and two checkpoints."""
    run = work / "run"
    start(small_config(work, ["fgsm", {"meat": {"start": 1}}, {"ema": {"tau": 0.5}}]), run)
    return run


def readers(run: Path) -> dict[Path, Reader]:
    """Every file that a later command relies on, and the door through which that command reads it."""

    def folder() -> list[str]:
        said: list[str] = []
        existing_folder(run, said.append)
        return said

    def door(read: Callable[[Path], object], path: Path) -> Reader:
        def through() -> Sequence[str]:
            read(path)
            return ()

        return through

    found: dict[Path, Reader] = {run / "config.yaml": folder, run / "manifest.json": folder}
    found[run / "summary.json"] = door(read_sealed, run / "summary.json")
    found[run / "metrics.jsonl"] = lambda: [line for line in resume(run).said if "metrics.jsonl" in line]
    for path in list_checkpoints(run / "checkpoints"):
        found[path] = found[path.with_suffix(".safetensors")] = door(load_checkpoint, path)
    for path in (run / "weights").iterdir():
        found[path] = door(read_weights, path)
    history = DiskHistory(run / "history" / "meat")
    newest = load_checkpoint(list_checkpoints(run / "checkpoints")[0])
    history.load_state_dict(newest["engine"]["plugins"]["meat"]["history"])
    for path in (run / "history" / "meat").iterdir():
        found[path] = door(lambda _: history.reader(), path)
    return found


def flip(doors: dict[Path, Reader], rng: random.Random, count: int, tally: Tally) -> None:
    """Flip one random bit of a random file, ``count`` times."""
    paths = sorted(doors)
    for _ in range(count):
        path = rng.choice(paths)
        whole = path.read_bytes()
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        tally.flips += 1
        _try(path, bytes(damaged), doors[path], f"bit {bit}", tally)


def truncate(doors: dict[Path, Reader], every: int, tally: Tally) -> None:
    """Cut each file to every ``every``-th of its shorter lengths; the metrics, read by a whole resume, to fewer."""
    for path, door in sorted(doors.items()):
        whole = path.read_bytes()
        for length in range(0, len(whole), every if path.name != "metrics.jsonl" else max(every, len(whole) // 20)):
            tally.truncations += 1
            _try(path, whole[:length], door, f"cut to {length} bytes", tally)


def _try(path: Path, content: bytes, door: Reader, what: str, tally: Tally) -> None:
    name = f"{path.parent.name}/{path.name}"
    with _holding(path, content):
        try:
            if not door():
                tally.lost.append(f"{name}, {what}: read without a word")
        except ButtressError as problem:
            if path.stem not in str(problem):
                tally.lost.append(f"{name}, {what}: the error does not name it: {problem}")
        except Exception as problem:
            tally.lost.append(f"{name}, {what}: {type(problem).__name__} instead of an error of buttress: {problem}")


@contextmanager
def _holding(path: Path, content: bytes) -> Iterator[None]:
    """Let the file hold something else for a while; written in place, as a failing disk does."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


def resume_damaged(run: Path, rng: random.Random, count: int, tally: Tally) -> None:
    """Flip, cut or remove a random file and resume: refused, or named and to the same end; never something else."""
    expected = fingerprint(run)
    for _ in range(count):
        copy = run.with_name("damaged")
        shutil.copytree(run, copy)
        newest = list_checkpoints(copy / "checkpoints")[0]
        path = rng.choice(sorted(path for path in copy.rglob("*") if path.is_file() and path.name != "log.txt"))
        how = _damage(path, rng)
        tally.resumes += 1
        name = f"resume with {path.relative_to(copy)} {how}"
        try:
            said = " ".join(resume(copy).said)
            now = fingerprint(copy)
            different = [key for key in expected if expected[key] != now.get(key)]
            if path.name == "metrics.jsonl" and "metrics.jsonl" in said:
                different = []  # lost and said; training does not need it
            tally.lost += [f"{name}: {key} differs" for key in different]
            if path in (newest, newest.with_suffix(".safetensors")) and path.exists() and path.stem not in said:
                tally.lost.append(f"{name}: not said")
        except ButtressError:
            pass
        except Exception as problem:
            tally.lost.append(f"{name}: {type(problem).__name__} instead of an error of buttress: {problem}")
        shutil.rmtree(copy)


def _damage(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    how = rng.choice(["flipped", "cut", "removed"])
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    return how


def section(work: Path, rng: random.Random, flips: int = 1000, every: int = 1, resumes: int = 200) -> Section:
    tally, run = Tally(), finished_run(work)
    doors = readers(run)
    flip(doors, rng, flips, tally)
    truncate(doors, every, tally)
    resume_damaged(run, rng, resumes, tally)
    return Section(
        "Damaged files",
        "Single bits flipped, and files cut to every shorter length: checkpoints (JSON and tensors), snapshots of a "
        "history, config, manifest, weights, summary, metrics; each then read by the function that the commands read "
        "it with. Noticed means: an error of buttress that names the file, or, for manifest and metrics, without which "
        "a run can go on, a line that names it. Then runs resumed with one file flipped, cut or removed: refused, or "
        "resumed to the same end by sha256.",
        [
            ("files", len(doors)),
            ("bit flips", tally.flips),
            ("truncations", tally.truncations),
            ("resumes with a damaged file", tally.resumes),
            ("unnoticed, unnamed or different", len(tally.lost)),
        ],
        tally.lost,
    )
