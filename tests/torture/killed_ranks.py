"""One rank of several killed with SIGKILL: the others end and name it, and the run goes on to the same end."""

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from buttress.storage.run_folder import RunFolder
from buttress.training.checkpoint import list_checkpoints

from ..world.forked import ForkedRanks
from .report import Section
from .resume_points import fingerprint
from .small import small_config

SIZES = (2, 3)

# Longest wait between the checkpoint that is waited for and the kill, in seconds: some steps and the next checkpoint.
_LONGEST = 0.3


@dataclass
class Tally:
    """What the kills left."""

    kills: int = 0
    finished_runs: int = 0
    slowest: float = 0.0
    lost: list[str] = field(default_factory=list)


def kill_ranks(work: Path, rng: random.Random, kills: int) -> Tally:
    """Kill one rank of two and of three alternately; each next launch goes on with what the last one left."""
    tally, number = Tally(), 0
    configs = {size: _config(work / f"on-{size}") for size in SIZES}
    wholes = {size: _expected(config, size) for size, config in configs.items()}
    while tally.kills < kills:
        size = SIZES[number % len(SIZES)]
        name = f"run-{number}"
        run = _folder(configs[size], name)
        _until_done(configs[size], name, size, rng, tally, kills)
        if list_checkpoints(run.checkpoints):
            codes = _launch(configs[size], name, size).end().codes
            tally.lost += [f"{name} on {size} ranks: the last resume ended with {codes}"] * any(codes)
            tally.finished_runs += 1
            now = fingerprint(run.path)
            tally.lost += [
                f"{name} on {size} ranks: {key} differs from the run that was never killed"
                for key, value in wholes[size].items()
                if now.get(key) != value
            ]
        shutil.rmtree(run.path, ignore_errors=True)
        number += 1
    return tally


def _until_done(config: Path, name: str, size: int, rng: random.Random, tally: Tally, kills: int) -> None:
    """Start and resume the run until it ends, or ``kills`` kills have been made."""
    run = _folder(config, name)
    while tally.kills < kills:
        before = _newest(run)
        if run.path.exists() and not before:  # killed before the checkpoint of step 0: begun anew
            shutil.rmtree(run.path)
        ranks, rank = _launch(config, name, size), rng.randrange(size)
        _wait(ranks, run, before + 4 * rng.randint(0, 2))
        time.sleep(rng.uniform(0.0, _LONGEST))
        alive = ranks.processes[rank].is_alive()
        ranks.kill(rank)
        begun = time.monotonic()
        try:
            ended = ranks.end()
        except AssertionError as problem:
            tally.kills += 1
            tally.lost.append(f"kill {tally.kills}: hanging after a minute: {problem}")
            return
        if not alive or ended.codes[rank] != -signal.SIGKILL:
            tally.lost += [f"{name}: ended with {ended.codes}"] * any(ended.codes)
            return
        tally.kills += 1
        tally.slowest = max(tally.slowest, time.monotonic() - begun)
        others = {code for other, code in enumerate(ended.codes) if other != rank}
        if others == {0}:  # killed when the run was done
            return
        named = (f"rank {rank} of {size}: ended", "did not meet the others")
        if others != {1} or not any(words in line for words in named for line in ended.errors):
            tally.lost.append(f"kill {tally.kills}: rank {rank} of {size} is not named: {ended.codes} {ended.errors}")


def _wait(ranks: ForkedRanks, run: RunFolder, newest: int) -> None:
    """Wait until the run has a checkpoint as new as that, or its ranks have ended."""
    ranks.until(lambda: run.path.exists() and _newest(run) >= newest)


def _newest(run: RunFolder) -> int:
    """Step of the newest checkpoint, and 1; 0 where there is none."""
    checkpoints = list_checkpoints(run.checkpoints)
    return 1 + int(checkpoints[0].stem.removeprefix("step-")) if checkpoints else 0


def _config(work: Path) -> Path:
    """A config that saves and scores after every epoch of four steps, with three tracks and a history on disk."""
    work.mkdir()
    stack = ["fgsm", {"meat": {"start": 1}}, {"ema": {"tau": 0.5}}]
    each = {"evaluation": {"every": 1, "attack": {"fgsm": {}}}, "checkpoint": {"every": 1}}
    file = small_config(work, stack, epochs=6, **each)
    path = work / "small.yaml"
    path.write_text(yaml.safe_dump(file.config.model_dump(mode="json", exclude_defaults=True)))
    return path


def _folder(config: Path, name: str) -> RunFolder:
    return RunFolder(config.parent / "runs" / "small" / name)


def _launch(config: Path, name: str, size: int) -> ForkedRanks:
    """The ranks that begin the run, or go on with it where it has a checkpoint."""
    run = _folder(config, name)
    begin = ["train", str(config), "--runs", str(config.parent / "runs"), "--run", name]
    words = ["resume", str(run.path)] if list_checkpoints(run.checkpoints) else begin
    texts = config.parent / "texts" / name
    shutil.rmtree(texts, ignore_errors=True)
    return ForkedRanks(words, size, texts, BUTTRESS_TIMEOUT="20")  # for a rank that is killed before all have met


def _expected(config: Path, size: int) -> dict[str, str]:
    """Hashes of a run that is never killed."""
    ended = _launch(config, "whole", size).end()
    if any(ended.codes):
        raise RuntimeError(f"the run on {size} ranks ended with {ended.codes}: {ended.texts}")
    return fingerprint(_folder(config, "whole").path)


def section(work: Path, rng: random.Random, kills: int = 20) -> Section:
    tally = kill_ranks(work, rng, kills)
    return Section(
        "Killed ranks",
        "Trainings on two and on three processes that save after every epoch of four steps (three tracks, a history on "
        "disk). One process, any of them, is killed with SIGKILL up to 0.3 s after one of the next three checkpoints; "
        "the others have to end within 60 s, with exit code 1 and a message that names it. The next launch goes on "
        "with what is there. Runs that reach their end are compared by sha256 with one that was never killed.",
        [
            ("ranks killed", tally.kills),
            ("longest time until all processes were gone", f"{tally.slowest:.1f} s"),
            ("runs finished and compared", tally.finished_runs),
            ("of them different", sum("differs" in line for line in tally.lost)),
            ("kills that hung or named no rank", sum(line.startswith("kill ") for line in tally.lost)),
        ],
        tally.lost,
    )
