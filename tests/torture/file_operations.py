"""Every file operation of a run, a resume and a roll-back fails once, and once the process is killed before it."""

import errno
import random
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import yaml

from .injector import Ended, Fault, Injector, build_library, reason_to_skip
from .kills import _leftovers
from .report import Section
from .resume_points import fingerprint

CODES = (errno.EIO, errno.ENOSPC, errno.EACCES)

# After these the files are what they were: a kill before the next operation is the kill before this one.
_CHANGE_NOTHING = ("open", "sync", "chmod")

FALL = '''
"""Source: nobody."""

from buttress import hookimpl


class Fall:
    """Takes all weights to zero in the third epoch while the learning rate is the first one: a collapse."""

    @hookimpl
    def adjust_grads(self, model, optimizer, ctx):
        lr = optimizer.param_groups[0]["lr"]
        if ctx.epoch == 2 and lr > 0.3:
            for weight in model.parameters():
                weight.grad.copy_(weight.detach() / lr)
'''


@dataclass(frozen=True)
class Scene:
    """What is disturbed.

    Args:
        name: for the report.
        config: of the run.
        begun: run folder with which it begins, and which is resumed; None: the run is started.
        end: fingerprint of the run that was never disturbed.
        operations: kind of each operation of the command that is disturbed, in order.
    """

    name: str
    config: Path
    begun: Path | None
    end: dict[str, str]
    operations: Sequence[str]

    def words(self, run: Path) -> list[str]:
        """The command line that begins or goes on, whichever the run folder ``run`` needs."""
        if (run / "config.yaml").exists():
            return ["resume", str(run)]
        return ["train", str(self.config), "--runs", str(run.parents[1]), "--run", run.name]

    def faults(self, first_code: int) -> list[Fault]:
        """Each operation: an error of the system, a kill before it, and for what is written a kill in its middle.

        Kills that would leave the same files are one.
        """
        found, before = list[Fault](), ""
        for number, kind in enumerate(self.operations, start=1):
            found.append(Fault(number, "fail", CODES[(number + first_code) % len(CODES)]))
            if before not in _CHANGE_NOTHING:
                found.append(Fault(number, "kill before"))
            if kind == "write":
                found.append(Fault(number, "kill within"))
            before = kind
        return found


def scenes(work: Path, injector: Injector) -> list[Scene]:
    """A run, the resume of one that was killed in its last epoch, and the resume of one that then collapses."""
    plain, falling = write_configs(work)
    run = _scene(work / "run", injector, "a run", plain)
    last = max(number for number, kind in enumerate(run.operations) if kind == "mkdir")
    killed = _killed(work / "resume", injector, plain, last)
    whole = _scene(work / "fall", injector, "a run that collapses", falling)
    steps = [number for number, kind in enumerate(whole.operations, start=1) if kind == "saved"]
    healthy = _killed(work / "roll back", injector, falling, steps[2] + 1)  # 0, 1 and 2 epochs are saved
    return [
        run,
        _scene(work / "resume", injector, "a resume", plain, killed, run.end),
        _scene(work / "roll back", injector, "a resume that rolls back", falling, healthy, whole.end),
    ]


def write_configs(work: Path) -> tuple[Path, Path]:
    """Two epochs of two steps with a history on disk; and digits that collapse in the third epoch of four."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 12), ("val", 8), ("test", 8)):
        arrays |= {f"x_{split}": rng.random((n, 1, 4, 4), dtype=np.float32), f"y_{split}": np.arange(n) % 3}
    np.savez(work / "tiny.npz", **arrays)
    (work / "fall.py").write_text(FALL)
    plain: dict[str, Any] = {
        "name": "tiny",
        "data": {"name": "npz", "path": str(work / "tiny.npz"), "batch_size": 6},
        "model": {"name": "mlp", "hidden": [8]},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": ["fgsm", {"meat": {"start": 1}}],
        "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.9},
        "epochs": 2,
        "evaluation": {"attack": {"fgsm": {}}},
        "checkpoint": {"keep": 2},
        "log_every": 3,
        "device": "cpu",
    }
    falling = plain | {
        "data": {"name": "digits", "train_per_class": 20, "validation": 100, "batch_size": 20},
        "threat": {"norm": "linf", "eps": "1/50"},
        "model": {"name": "mlp", "hidden": [32]},
        "plugins": ["fgsm", "fall"],
        "plugins_file": "fall.py",
        "epochs": 4,
        "log_every": 5,
        "optimizer": {"name": "sgd", "lr": 0.5},
        "guards": {"collapse": "roll_back"},
    }
    for name, tree in (("plain", plain), ("falling", falling)):
        (work / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return work / "plain.yaml", work / "falling.yaml"


def _scene(
    home: Path,
    injector: Injector,
    name: str,
    config: Path,
    begun: Path | None = None,
    end: dict[str, str] | None = None,
) -> Scene:
    """Play it undisturbed, to know its operations and, where it is not known, its end."""
    run, log = home / "whole" / "tiny" / "r", home.parent / f"{home.name}.log"
    scene = Scene(name, config, begun, end or {}, [])
    _set_up(run, begun)
    ended = injector.run(scene.words(run), run.parents[1], log=log)
    if ended.code:
        raise RuntimeError(f"{name}: {ended}")
    lines = log.read_text().splitlines()
    operations = ["saved" if _saves(line) else line.partition(" ")[0] for line in lines]
    return Scene(name, config, begun, end or fingerprint(run), operations)


def _saves(line: str) -> bool:
    kind, _, path = line.partition(" ")
    return kind == "rename" and Path(path).parent.name == "checkpoints" and path.endswith(".json")


def _killed(home: Path, injector: Injector, config: Path, number: int) -> Path:
    """The folder of a run that was killed before an operation."""
    run = home / "begun" / "tiny" / "r"
    _set_up(run, None)
    ended = injector.run(Scene("", config, None, {}, []).words(run), run.parents[1], Fault(number, "kill before"))
    if ended.code != -9:
        raise RuntimeError(f"not killed: {ended}")
    return run


def _set_up(run: Path, begun: Path | None) -> None:
    run.parents[1].mkdir(parents=True)
    if begun is not None:
        shutil.copytree(begun, run)


def unsynced(lines: Sequence[str]) -> list[str]:
    """What a power failure could take from a checkpoint, or from a run that has ended.

    Args:
        lines: log of the operations of one command.

    Returns:
        A line for each file that was written, and each folder in which a name was made, and that was not synced when
        the next checkpoint got its name, or in the end. Temporary files and the log of the run are left out.
    """
    waiting, found = dict[str, None](), []
    for line in lines:
        kind, _, path = line.partition(" ")
        place = Path(path)
        if kind == "sync":
            waiting.pop(path, None)
        elif place.name.startswith("."):
            continue
        elif kind == "write" and place.name != "log.txt":
            waiting[path] = None
        elif _saves(line):
            found += [f"{each} is not synced when {place.name} is written" for each in waiting]
            waiting = {str(place.parent): None}
        elif kind in ("create", "mkdir", "rename", "link"):
            waiting[str(place.parent)] = None
    return [*found, *(f"{each} is not synced in the end" for each in waiting)]


def disturb(scene: Scene, injector: Injector, home: Path, fault: Fault) -> list[str]:
    """Play a scene with one fault, and go on until the run has ended; what was lost, a line each."""
    run = home / "tiny" / "r"
    _set_up(run, scene.begun)
    ended = injector.run(scene.words(run), home, fault)
    lost = _unclear(ended, fault)
    for _ in range(3):
        going_on = injector.run(scene.words(run), home)
        if going_on.code == 0:
            break
    else:
        return [*lost, f"cannot be continued: {going_on.said.strip()}"]
    found = fingerprint(run)
    lost += [f"{key} differs" for key in sorted({*scene.end, *found}) if scene.end.get(key) != found.get(key)]
    lost += [f"{path} was left" for path, _ in sorted(_leftovers(home))]
    shutil.rmtree(home)
    return lost


def _unclear(ended: Ended, fault: Fault) -> list[str]:
    """An error is one line and exit code 1, or does no harm; a kill is a kill."""
    if fault.mode != "fail":
        return [] if ended.code == -9 else [f"expected a kill, ended with {ended.code}: {ended.said[-300:]}"]
    lines = [line for line in ended.said.splitlines() if not line.endswith(" ...")]
    if ended.code == 0 or (ended.code == 1 and len(lines) == 1 and lines[0].startswith("error: ")):
        return []
    return [f"expected one line and exit code 1, got {ended.code} and {ended.said[-600:]!r}"]


def play(work: Path, chosen: Sequence[tuple[Scene, Fault]], injectors: Sequence[Injector]) -> Iterator[str]:
    """Disturb each scene with its fault; what was lost, a line each."""
    idle: SimpleQueue[Injector] = SimpleQueue()
    for injector in injectors:
        idle.put(injector)

    def one(number: int, scene: Scene, fault: Fault) -> list[str]:
        injector = idle.get()
        try:
            lost = disturb(scene, injector, work / f"case-{number}", fault)
        finally:
            idle.put(injector)
        return [f"{scene.name}, {fault} ({scene.operations[fault.number - 1]}): {line}" for line in lost]

    with ThreadPoolExecutor(len(injectors)) as pool:
        for lost in pool.map(one, range(len(chosen)), *zip(*chosen, strict=True)):
            yield from lost


def drawn(found: Sequence[Scene], rng: random.Random, number: int | None = None) -> list[tuple[Scene, Fault]]:
    """All faults of the scenes, or so many of them."""
    faults = [(scene, fault) for scene in found for fault in scene.faults(rng.randrange(3))]
    return faults if number is None else rng.sample(faults, number)


def section(work: Path, rng: random.Random, number: int | None = None, processes: int = 2) -> Section:
    title = "Every file operation"
    if reason := reason_to_skip():
        return Section(title, f"Left out: {reason}.", [("faults", 0)])
    with ExitStack() as stack:
        library = build_library(work)
        injectors = [stack.enter_context(Injector(library)) for _ in range(processes)]
        found = scenes(work, injectors[0])
        chosen = drawn(found, rng, number)
        lost = list(play(work, chosen, injectors))
    failures = sum(fault.mode == "fail" for _, fault in chosen)
    return Section(
        title,
        "Files opened to be written, made, written, synced, cut, renamed, linked, removed; folders made and removed; "
        "permissions set: at each of these calls of Python, torch and safetensors below the folder of runs, the call "
        "fails once (input/output error, disk full, permission denied, in turn), and the process is killed before it,"
        " unless the call before has changed nothing; in the middle of each write too. An error has to be one line "
        "and exit code 1. Then the command is given again, or `buttress resume`, and the run is compared by sha256 "
        "with the one that was never disturbed: state, weights, history, metrics, summary; and nothing half may be "
        "left. (The rename within the safetensors library is a system call of its own, which is not seen.)",
        [
            *((f"operations of {scene.name}", len(scene.operations)) for scene in found),
            ("errors injected", failures),
            ("kills", len(chosen) - failures),
            ("unclear, left behind or different", len(lost)),
        ],
        lost,
    )
