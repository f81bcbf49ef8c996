"""Plugins that misbehave once, in a training or an evaluation: named or harmless, and the run resumes as if not."""

import json
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from buttress.cli import main

from .misdeeds import ANSWERS, MISDEEDS
from .report import Section
from .resume_points import fingerprint
from .small import quickly, small_config

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.torture.warm"])

NAMED = "plugin 'meddler' (meddler.py"
"""What an error says of whose fault it is."""

# What cannot be traced to a plugin is named itself.
_SAYS = {"writes NaN into a buffer": "buffer 'bn.running_mean' holds 4 non-finite values"}

_INTERRUPTED = "buttress: stopped"
"""What is said of Ctrl-C and SIGTERM: nobody is to blame, and the run can be resumed."""

TRAINING = [
    *(f"{what}@generate_adv" for what in (*MISDEEDS, *ANSWERS)),
    *(f"{what}@adjust_grads" for what in MISDEEDS if "then raises" in what or "a module" in what or "weight" in what),
    *(f"{what}@ensemble_weights" for what in ("makes the model double", "bfloat16, then raises", "exits with 0")),
    *(f"{what}@end_epoch" for what in ("raises", "exits with 0", "changes the folder", "forks and goes on")),
]
EVALUATION = [f"{what}@generate_adv" for what in (*MISDEEDS, *ANSWERS)]


@dataclass
class Tally:
    """What became of the misdeeds."""

    named: int = 0
    harmless: int = 0
    interrupted: int = 0
    resumed: int = 0
    lost: list[str] = field(default_factory=list)


class Bench:
    """A folder with a config, the plugins file, and a run in which nobody misbehaved, to compare with."""

    def __init__(self, work: Path) -> None:
        self.work = work
        shutil.copy(Path(__file__).with_name("misdeeds.py"), work / "meddler.py")
        tree = small_config(work, ["fgsm"]).source.value
        tree = {**tree, "plugins": ["meddler"], "plugins_file": "meddler.py"}
        (work / "small.yaml").write_text(yaml.safe_dump(tree))
        code, said = self.command("", "train", "small.yaml", "--run", "good")
        assert code == 0, said
        self.run = work / "runs" / "small" / "good"
        self.expected = _of_training(self.run)
        self.scores = self._evaluated("")[2]

    def command(self, misdeed: str, *words: str) -> tuple[int, str]:
        """``buttress WORDS`` in a process of its own: its exit code and all that it printed."""
        log = self.work / "said.txt"
        process = _processes.Process(target=_main, args=(str(self.work), str(log), misdeed, words))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, log.read_text(errors="replace")

    def train(self, misdeed: str, tally: Tally) -> None:
        """One training with the misdeed, resumed without it where it has ended early."""
        run = self.work / "runs" / "small" / "bad"
        shutil.rmtree(run, ignore_errors=True)
        code, said = self.command(misdeed, "train", "small.yaml", "--run", "bad")
        wrong = self._wrong(misdeed, code, said, tally)
        if not wrong and code:
            again, more = self.command("", "resume", str(run))
            tally.resumed += 1
            wrong = [f"cannot be resumed: exit {again}, {more[-300:]}"] if again else []
        if not wrong:
            now = _of_training(run)
            wrong = [f"{key} differs" for key in {**self.expected, **now} if self.expected.get(key) != now.get(key)]
        tally.lost += [f"training, {misdeed}: {line}" for line in wrong]

    def evaluate(self, misdeed: str, tally: Tally) -> None:
        """One evaluation with the misdeed; it leaves the run and, where it ends, the numbers as they are."""
        code, said, scores = self._evaluated(misdeed)
        wrong = self._wrong(misdeed, code, said, tally)
        if not wrong and code == 0 and scores != self.scores:
            wrong = ["other numbers than without it"]
        if _of_training(self.run) != self.expected:
            wrong.append("the run is no longer what it was")
        tally.lost += [f"evaluation, {misdeed}: {line}" for line in wrong]

    def _evaluated(self, misdeed: str) -> tuple[int, str, Any]:
        results = self.work / "eval"
        shutil.rmtree(results, ignore_errors=True)
        words = ("evaluate", str(self.run), "--attack", "meddler", "--output", str(results))
        code, said = self.command(misdeed, *words)
        found = [json.loads(path.read_text())["attacks"] for path in results.glob("*.json")]
        return code, said, [[row | {"seconds": 0} for row in rows] for rows in found]

    def _wrong(self, misdeed: str, code: int, said: str, tally: Tally) -> list[str]:
        if not (self.work / "done").exists():
            return ["it was never done"]
        if "Traceback (most recent call last)" in said:
            return [f"a traceback: {said[-300:]}"]
        named = _SAYS.get(misdeed.partition("@")[0], NAMED) in said
        interrupted = _INTERRUPTED in said
        tally.named += code == 1 and named
        tally.interrupted += code == 1 and interrupted
        tally.harmless += code == 0
        if code == 0 or (code == 1 and (named or interrupted)):
            return []
        return [f"exit {code}, and nobody is named: {said[-300:]}"]


def _main(work: str, log: str, misdeed: str, words: Sequence[str]) -> None:
    """The command line, as its own process has it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(work)
    done = Path(work, "done")
    done.unlink(missing_ok=True)
    os.environ |= {
        "MISDEED": misdeed,
        "MISDEED_IN": words[0],
        "MISDEED_DONE": str(done),
        "XDG_CONFIG_HOME": work,
        "OMP_NUM_THREADS": "1",
    }
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    with quickly():
        code = main(list(words))
    os._exit(code)  # the forked server's own end would speak of what a plugin has closed


def _of_training(run: Path) -> dict[str, str]:
    """The sha256 of all that training left; not of what knows when and as which run it was made."""
    own = ("run", "config")
    return {key: value for key, value in fingerprint(run).items() if not key.removeprefix("state ").startswith(own)}


def section(work: Path, rng: random.Random) -> Section:
    bench, tally = Bench(work), Tally()
    for misdeed in rng.sample(TRAINING, len(TRAINING)):
        bench.train(misdeed, tally)
    for misdeed in rng.sample(EVALUATION, len(EVALUATION)):
        bench.evaluate(misdeed, tally)
    return Section(
        "Misbehaving plugins",
        "A plugin that misbehaves once, in the middle of a training or of an evaluation by the command: it writes into "
        "what it was given, exchanges or converts parts of the model, raises all kinds of exceptions, exits, changes "
        "the process, or answers with something else. Either the error names the plugin (exit code 1), or it was an "
        "interruption, or it did no harm. Trainings that ended early are resumed without the misdeed; every training "
        "is compared by sha256 with one in which nothing happened.",
        [
            ("misdeeds in training", len(TRAINING)),
            ("misdeeds in an evaluation", len(EVALUATION)),
            ("named", tally.named),
            ("harmless", tally.harmless),
            ("interruptions", tally.interrupted),
            ("resumed to the end and compared", tally.resumed),
        ],
        tally.lost,
    )
