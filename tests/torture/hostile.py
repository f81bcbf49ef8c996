"""Every JSON file of a run folder, edited and sealed again: each command refuses it, or takes no harm."""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from buttress.cli import main
from buttress.storage.results import NOT_VERIFIED
from buttress.storage.seals import write_sealed

from ..sealing import rewrite_metrics, unsealed
from .report import Section

CONFIG = """
name: tiny
data: {name: npz, path: tiny.npz, batch_size: 6}
model: {name: mlp, hidden: [4]}
threat: {norm: linf, eps: 1/10}
plugins: [{pgd: {steps: 1, step_size: 1/8}}, {ema: {}}]
optimizer: {name: sgd, lr: 0.1}
epochs: 2
evaluation: {attack: {pgd: {steps: 1, step_size: 1/8}}, train: true}
log_every: 3
device: cpu
"""

COMMANDS: dict[str, Sequence[str]] = {
    "report": ["report", "copy/run"],
    "export": ["export", "copy/run", "--output", "shelf"],
    "audit": ["audit", "copy/run", "--examples", "2"],
    "analyze": ["analyze", "copy/run", "--part", "gap", "--part", "loss_groups"],
    "evaluate": ["evaluate", "copy/run", "--attack", "clean"],
    "resume": ["resume", "copy/run"],
    "reproduce": ["reproduce", "copy/run", "--runs", "again"],
    "config show": ["config", "show", "copy/run/config.yaml"],
    "compare": ["compare", "tiny.yaml", "--runs", "copy", "--name", "c", "--seeds", "1", "--attack", "fgsm"],
}
"""Every command that reads a run folder; the comparison lies in ``copy/c``, of which ``copy/run`` is the run."""

READERS: dict[str, Sequence[str]] = {
    "manifest.json": ["report", "export", "evaluate", "resume", "reproduce", "config show", "compare"],
    "metrics.jsonl": ["report", "export", "analyze", "resume", "reproduce", "compare"],
    "summary.json": ["report", "resume", "compare"],
    "checkpoints": ["resume", "report"],
    "audit.json": ["report", "export", "audit"],
    "eval": ["report", "export", "audit"],
    "analysis": ["report"],
    "compare.json": ["compare"],
    "plan.json": ["compare"],
}
"""A file, or a folder of files, to the commands that read it."""

_REMOVED, _RENAMED = object(), object()
_DEEP: Any = 0
for _ in range(200):
    _DEEP = [_DEEP]
VALUES: dict[str, Any] = {
    "removed": _REMOVED,
    "a name that leads out": _RENAMED,
    "null": None,
    "a text": "../../notes.txt",
    "a list": [],
    "an object": {},
    "a number": -1,
    "a share beyond 1": 97.5,
    "400 digits": 10**400,
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "nested": _DEEP,
    "half a character": "\ud800",
}


@dataclass
class Tally:
    """What was tried and what came of it."""

    mutations: int = 0
    refused: int = 0
    left_out: int = 0
    harmless: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What a command said and ended with; None: an exception that is no error of buttress."""

    code: int | None
    said: str


def make(work: Path) -> None:
    """A comparison of one run, and everything that can be in the folder of that run: ``sound/c`` and ``sound/run``."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 12), ("val", 8), ("test", 8)):
        arrays |= {f"x_{split}": rng.random((n, 1, 4, 4), dtype=np.float32), f"y_{split}": np.arange(n) % 3}
    np.savez(work / "tiny.npz", **arrays)
    (work / "tiny.yaml").write_text(CONFIG)
    (work / "notes.txt").write_text("precious\n")
    run = "copy/c/tiny-s0"
    for words in (
        ["train", "tiny.yaml", "name=c", "--runs", "copy", "--run", "tiny-s0"],
        ["evaluate", run, "--attack", "fgsm"],
        ["audit", run, "--examples", "2"],
        ["analyze", run, "--points", "3", "--examples", "4"],
    ):
        assert call(words).code in (0, 1), words
    scores = {"fgsm": {track: {"best": 0.5, "last": 0.25} for track in ("live", "ema")}}
    write_sealed(work / run / "compare.json", scores)
    (work / "copy" / "run").symlink_to("c/tiny-s0")
    assert call(COMMANDS["compare"]).code == 0  # writes the plan
    (work / "copy").rename(work / "sound")


def call(words: Sequence[str]) -> Answer:
    """A command in this process; what has not been trained and scored stays so."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), patch(_POOL, return_value={}):
        try:
            code: int | None = main(list(words))
        except Exception as problem:
            return Answer(None, f"{type(problem).__name__}: {problem}"[:200])
    return Answer(code, said.getvalue())


_POOL = "buttress.comparing.pool.Pool.run"


def files(sound: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """Every JSON file, below the folder of the comparison, with the commands that read it."""
    for path in sorted([*sound.rglob("*.json"), *sound.rglob("*.jsonl")]):
        place = path.relative_to(sound)
        for part in (path.name, path.parent.name):
            if part in READERS and "run" not in place.parts:
                yield place, READERS[part]


def places(tree: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every value of a tree; of long lists to the first and the last."""
    yield at
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*at, key))
    elif isinstance(tree, list):
        for number in sorted({0, len(tree) - 1} & set(range(len(tree)))):
            yield from places(tree[number], (*at, number))


def changed(tree: Any, at: tuple[Any, ...], value: object) -> Any:
    """A copy of ``tree`` with another value at a place."""
    if not at:
        return {} if value in (_REMOVED, _RENAMED) else value
    new = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(at) == 1 and value is _RENAMED and isinstance(new, dict):
        new["../../notes.txt"] = new.pop(at[0])
    elif len(at) == 1 and value in (_REMOVED, _RENAMED):
        del new[at[0]]
    else:
        new[at[0]] = changed(tree[at[0]], at[1:], value)
    return new


def mutate(path: Path, rng: random.Random, sealed: bool) -> str:
    """Edit one place of a file; returns what was done."""
    name = rng.choice(list(VALUES))
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else []
    number = rng.randrange(len(lines)) if lines else 0
    tree = json.loads(lines[number]) if lines else unsealed(path)
    at = rng.choice(list(places(tree)))
    new = changed(tree, at, VALUES[name])
    where = ".".join(map(str, at)) or "all of it"
    if lines:
        lines[number] = json.dumps(new)
        content = "".join(f"{line}\n" for line in lines).encode()
        if sealed:
            rewrite_metrics(path.parent, content)
        else:
            path.write_bytes(content)
        return f"line {number + 1}: {where}: {name}"
    if sealed and isinstance(new, Mapping):
        write_sealed(path, new)
    else:
        seal = json.loads(path.read_text())["sha256"]
        whole = {**new, "sha256": seal} if isinstance(new, Mapping) else new
        path.write_text(json.dumps(whole, indent=1) + "\n")
    return f"{where}: {name}"


def attempt(work: Path, place: Path, command: str, rng: random.Random, tally: Tally) -> None:
    """Edit one file of a copy, give one command, and look at what came of it."""
    copy, sealed = work / "copy", rng.random() < 0.75
    shutil.copytree(work / "sound", copy, symlinks=True)
    try:
        before = (copy / place).read_bytes()
        done = mutate(copy / place, rng, sealed)
        if (copy / place).read_bytes() == before:
            return
        around = _around(work)
        answer = call(COMMANDS[command])
        what = f"{place.relative_to(*place.parts[:1])}, {done}{', sealed again' * sealed}: {command}"
        tally.mutations += 1
        if answer.code is None:
            tally.lost.append(f"{what}: {answer.said}")
        elif _around(work) != around:
            tally.lost.append(f"{what}: a file outside of the run folder has been written or removed")
        elif answer.code == 2:
            tally.refused += 1
        elif answer.code == 1 and command not in ("audit", "reproduce"):
            tally.lost.append(f"{what}: exit code 1: {answer.said.strip()[-200:]}")
        elif place.stem in answer.said:
            tally.left_out += 1
        elif not sealed and not _marked(copy) and _quoted(place, command):
            tally.lost.append(f"{what}: quoted without a word")
        else:
            tally.harmless += 1
    finally:
        for path in (copy, work / "shelf", work / "again"):
            shutil.rmtree(path, ignore_errors=True)


# What a command quotes where it neither refuses it nor leaves it out.
_QUOTED = {
    "report": ("metrics.jsonl", "manifest.json"),
    "export": ("metrics.jsonl", "audit.json"),
    "compare": ("metrics.jsonl", "summary.json", "compare.json", "plan.json"),
}


def _quoted(place: Path, command: str) -> bool:
    return place.name in _QUOTED.get(command, ()) or place.parent.name in ("eval", "analysis")


def _marked(copy: Path) -> bool:
    pages = [copy / "run" / "report.html", copy.parent / "shelf" / "README.md"]
    return any(page.is_file() and NOT_VERIFIED in page.read_text() for page in pages)


def _around(work: Path) -> dict[str, str]:
    """What a command may not touch."""
    found = {path for path in work.rglob("*") if path.is_file() and path.relative_to(work).parts[0] not in _ITS_OWN}
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


_ITS_OWN = ("copy", "sound", "shelf", "again")


@contextlib.contextmanager
def _within(work: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(work)
    try:
        yield
    finally:
        os.chdir(before)


def torment(work: Path, rng: random.Random, rounds: int, wanted: Callable[[str], bool] = lambda command: True) -> Tally:
    """``rounds`` edits of every file for every command that reads it."""
    tally = Tally()
    with _within(work):
        make(work)
        for place, commands in files(work / "sound"):
            for command in filter(wanted, commands):
                for _ in range(rounds):
                    attempt(work, place, command, rng, tally)
    return tally


def section(work: Path, rng: random.Random, rounds: int = 7) -> Section:
    tally = torment(work, rng, rounds)
    return Section(
        "Hostile run folders",
        "Every JSON file of a run with everything in it, and of its comparison, edited at a random place: a key "
        "removed or renamed to a path out of the folder, null, such a path as a text, a list, an object, a number, "
        "97.5, 400 digits, NaN, infinity, 200 levels, half of a character; three times in four sealed again, as a "
        "stranger can. Each is then read by every command that reads the file. Lost are: an exception that is no "
        "error of buttress, an exit code other than 2 for what is refused, a file outside of the run folder that was "
        "written or removed, and a number from a file with a wrong seal that a report, a model card or a table quotes "
        "without a mark.",
        [
            ("commands", len(COMMANDS)),
            ("edits read by a command", tally.mutations),
            ("refused", tally.refused),
            ("left out, or gone on without, by name", tally.left_out),
            ("taken without harm", tally.harmless),
            ("raw exceptions, files touched outside, numbers quoted without a mark", len(tally.lost)),
        ],
        tally.lost,
    )
