"""Files of a run flipped, cut and removed: whatever reads them says so, and nothing is loaded silently."""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from buttress.errors import ButtressError
from buttress.storage.history import DiskHistory
from buttress.storage.reading import read_tensors
from buttress.storage.seals import read_any_weights, read_sealed, read_weights
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import expect_undamaged, load_checkpoint
from buttress.training.existing import existing_folder
from buttress.training.metrics_file import MetricsFile

from .report import Section
from .resume_points import fingerprint
from .small import resume, small_config, start


@dataclass(frozen=True)
class Door:
    """A file that a later command relies on, and how that command reads it.

    Args:
        path: the file.
        read: raises an error of buttress, or returns what it said about the file; nothing where it took it for sound.
    """

    path: Path
    read: Callable[[], Sequence[str]]


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


def doors(run: Path) -> list[Door]:
    """Every file of a run that a later command relies on, with every way in which a command reads it."""
    newest = load_checkpoint(list_checkpoints(run / "checkpoints")[0])
    history, metrics = DiskHistory(run / "history" / "meat"), MetricsFile(run / "metrics.jsonl")
    history.load_state_dict(newest["engine"]["plugins"]["meat"]["history"])
    metrics.expect(newest["metrics_bytes"], newest["metrics_sha256"])

    def folder(_: Path, say: Callable[[str], None]) -> None:
        existing_folder(run, say)

    def resumed(_: Path, say: Callable[[str], None]) -> None:
        metrics.put_back([], say)
        for aside in run.glob("metrics.damaged*"):
            aside.unlink()

    def loaded(path: Path, say: Callable[[str], None]) -> None:
        load_checkpoint(path.with_suffix(".json"))

    def median(_: Path, say: Callable[[str], None]) -> None:
        history.reader()

    def taken(path: Path, say: Callable[[str], None]) -> None:
        """As weights of anybody, which need no seal: damage that has hidden the seal alone has left all values."""
        if same_tensors(read_any_weights(path), sound[path]):
            say("the same values")

    def given(path: Path, say: Callable[[str], None]) -> None:
        expect_undamaged(path)
        taken(path, say)

    found = [_door(folder, run / "config.yaml"), _door(folder, run / "manifest.json")]
    found += [_door(resumed, run / "metrics.jsonl"), _door(lambda path, _: read_sealed(path), run / "summary.json")]
    bodies = list_checkpoints(run / "checkpoints")
    tensors = [path.with_suffix(".safetensors") for path in bodies]
    weights, snapshots = sorted((run / "weights").iterdir()), sorted((run / "history" / "meat").iterdir())
    sound = {path: read_tensors(path) for path in (*tensors, *weights, *snapshots)}
    found += [_door(loaded, path) for path in (*bodies, *tensors)]
    found += [_door(lambda path, _: read_weights(path), path) for path in weights]
    found += [_door(median, path) for path in snapshots]
    found += [_door(taken, path) for path in (*weights, *snapshots)]
    return found + [_door(given, path) for path in sound]


def _door(read: Callable[[Path, Callable[[str], None]], object], path: Path) -> Door:
    def through() -> Sequence[str]:
        said: list[str] = []
        read(path, said.append)
        return said

    return Door(path, through)


def same_tensors(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == two.keys() and all(
        one[name].dtype == value.dtype and torch.equal(one[name], value) for name, value in two.items()
    )


def flip(doors: Sequence[Door], rng: random.Random, count: int, tally: Tally) -> None:
    """Flip one random bit of a file and read it through one of its doors, ``count`` times."""
    for _ in range(count):
        door = rng.choice(doors)
        whole = door.path.read_bytes()
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        tally.flips += 1
        _try(door, bytes(damaged), f"bit {bit}", tally)


def truncate(doors: Sequence[Door], every: int, tally: Tally) -> None:
    """Cut each file to every ``every``-th of its shorter lengths, and read it through each of its doors in turn."""
    own: dict[Path, list[Door]] = {}
    for door in doors:
        own.setdefault(door.path, []).append(door)
    for path, through in own.items():
        whole = path.read_bytes()
        for number, length in enumerate(range(0, len(whole), every)):
            tally.truncations += 1
            _try(through[number % len(through)], whole[:length], f"cut to {length} bytes", tally)


def _try(door: Door, content: bytes, what: str, tally: Tally) -> None:
    path, name = door.path, f"{door.path.parent.name}/{door.path.name}"
    with _holding(path, content):
        try:
            if not door.read():
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
    _overwrite(path, content)
    try:
        yield
    finally:
        _overwrite(path, whole)


def _overwrite(path: Path, content: bytes) -> None:
    """Without emptying the file first, after which ext4 waits for the disk."""
    with path.open("rb+") as stream:
        stream.write(content)
        stream.truncate()


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
    ways = doors(run)
    flip(ways, rng, flips, tally)
    truncate(ways, every, tally)
    resume_damaged(run, rng, resumes, tally)
    return Section(
        "Damaged files",
        "Single bits flipped, and files cut to every shorter length: checkpoints (JSON and tensors), snapshots of a "
        "history, config, manifest, weights, summary, metrics; each then read by the functions that the commands read "
        "it with: to resume, evaluate, compare, make a median, analyse, make an ensemble. Noticed means: an error of "
        "buttress that names the file, or, for manifest and metrics, without which a run can go on, a line that names "
        "it. (One bit can hide a seal, and weights of strangers have none: there all values have to be the same.) Then "
        "runs resumed with one file flipped, cut or removed: refused, or resumed to the same end by sha256.",
        [
            ("files", len({door.path for door in ways})),
            ("ways to read them", len(ways)),
            ("bit flips", tally.flips),
            ("truncations", tally.truncations),
            ("resumes with a damaged file", tally.resumes),
            ("unnoticed, unnamed or different", len(tally.lost)),
        ],
        tally.lost,
    )
