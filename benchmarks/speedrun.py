"""The speed run: seconds of training until AutoAttack leaves 50 % of CIFAR-10 (L-inf 8/255, no other data, one GPU).

For each seed, the config is trained in a process of its own with empty caches of compiled code, and the weights of its
track ``ema`` after the last epoch are attacked by AutoAttack (standard, all test images, float32, not compiled).
``record.json`` and a table say how long it took, how robust the networks are, and which of the rules of
docs/speedrun.md the result breaks. The same command goes on where it was stopped; a training that was stopped begins
anew, so that no time is put together from parts.

``--smoke`` does all of that in this process on the CPU, in seconds: on images of noise in the files of CIFAR's format,
and on digits, with small networks that are not compiled, which would take minutes on a CPU.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

from buttress import Context, hookimpl
from buttress.config.file import ConfigFile, dump_config, load_config
from buttress.console.output import exit_code_of
from buttress.console.reporter import Reporter
from buttress.console.tables import percent, table
from buttress.errors import ConfigError, WorkError
from buttress.evaluation.assess import assess
from buttress.evaluation.result_table import result_table
from buttress.evaluation.subject import load_subject
from buttress.precision import Precision
from buttress.storage.files import write_text
from buttress.storage.git import git_state
from buttress.training.launch import start
from buttress.training.manifest import hardware
from buttress.training.named_files import named_files

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "speedrun.yaml"
GOAL, TEST_IMAGES, FEWEST_SEEDS = 0.5, 10_000, 5
TRACK = "ema"
FOLDER = Path("runs", "record")


class Clock:
    """A logger that notes the time before the first step and after every epoch, when the device has done its work."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    @hookimpl
    def start_run(self, ctx: Context) -> None:
        self._mark(ctx)

    @hookimpl
    def log(self, metrics: Mapping[str, object], ctx: Context) -> None:
        if metrics["event"] == "epoch":
            self._mark(ctx)

    def _mark(self, ctx: Context) -> None:
        if ctx.device.type == "cuda":
            torch.cuda.synchronize(ctx.device)
        self.marks.append(perf_counter())


@dataclass(frozen=True)
class Race:
    """One seed of a speed run.

    Args:
        config: file of the config.
        overrides: ``key=value``, on top of the config.
        seed: seed of the run.
        folder: folder of the whole speed run.
    """

    config: Path
    overrides: tuple[str, ...]
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / f"seed-{self.seed}.json"

    def run(self) -> None:
        """Train and evaluate, each unless it has been done; every part is written as soon as it is there."""
        file = load_config(self.config, [*self.overrides, f"seed={self.seed}"])
        row = json.loads(self.result.read_text()) if self.result.exists() else {}
        if row and row["config_sha256"] != digest(file):
            raise ConfigError(f"{self.result} is the result of another config; give another --folder")
        if not row:
            row = {"seed": self.seed, "config_sha256": digest(file), **trained(file, self.folder / "runs")}
            write_text(self.result, as_json(row))
        if "autoattack" not in row:
            write_text(self.result, as_json(row | scored(Path(row["run"]))))


def trained(file: ConfigFile, runs: Path) -> dict[str, Any]:
    """Train a config under the clock, without the forecast, whose steps would compile the model before it."""
    started = start(file, runs, forecast=False)
    assert started is not None
    clock, assembly, device = Clock(), started.assembly, started.assembly.engine.device
    replace(started, assembly=replace(assembly, loggers=(*assembly.loggers, clock))).finish()
    return {
        "run": str(started.folder.path),
        **seconds(clock.marks, assembly.length.epochs),
        "files": list(named_files(assembly.resolved)),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def seconds(marks: Sequence[float], epochs: int) -> dict[str, Any]:
    """The time of a run and of each of its epochs, in seconds."""
    if len(marks) != epochs + 1:  # a logger that fails is left out of the run, which goes on
        raise WorkError(f"expected the start and the ends of {epochs} epochs on the clock, got {len(marks)} times")
    return {
        "seconds": marks[-1] - marks[0],
        "epoch_seconds": [after - before for before, after in pairwise(marks)],
    }


def scored(run: Path) -> dict[str, Any]:
    """Attack the averaged weights of a run after its last epoch with AutoAttack, through ``buttress evaluate``."""
    subject = load_subject(run, overrides=["compile=off"], track=TRACK, checkpoint="last")
    with Reporter() as reporter:
        result = assess(subject, ["autoattack"], reporter=reporter)
    print(result_table(result, subject))
    return {
        "clean": result["attacks"][0]["left"],
        "autoattack": result["worst"],
        "weights_sha256": result["weights_sha256"],
        "evaluation": result["file"],
    }


def apart(race: Race) -> None:
    """Run a race in a process of its own."""
    process = get_context("spawn").Process(target=run_cold, args=(race,))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:  # the process has heard it too
        process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def run_cold(race: Race) -> None:
    """Run a race with empty caches of compiled code, and end the process."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor", "TRITON_CACHE_DIR": f"{caches}/triton"}
        raise SystemExit(exit_code_of(race.run))


def record(config: Path, overrides: Sequence[str], seeds: int, folder: Path, run: Callable[[Race], None]) -> None:
    """Let ``run`` make the races of seeds 0, 1, ..., write ``record.json``, and show the table."""
    file = load_config(config, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    races = [Race(config, tuple(overrides), seed, folder) for seed in range(seeds)]
    for race in races:
        run(race)
    rows = [json.loads(race.result.read_text()) for race in races]
    result = {
        "benchmark": "speedrun",
        "config_sha256": digest(file),
        "config": dump_config(file.config.model_dump()),
        "mean_seconds": mean(row["seconds"] for row in rows),
        "mean_autoattack": mean(row["autoattack"]["accuracy"] for row in rows),
        "broken_rules": broken_rules(file, rows),
        "seeds": rows,
        "git": git_state(),
        **hardware(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    write_text(folder / "record.json", as_json(result))
    print(f"\n{shown(result)}\nwritten to {folder / 'record.json'}")


def broken_rules(file: ConfigFile, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules of docs/speedrun.md that a result breaks; one that breaks none is a record."""
    config, accuracy = file.config, mean(row["autoattack"]["accuracy"] for row in rows)
    devices, sizes = {row["device"] for row in rows}, {row["autoattack"]["n"] for row in rows}
    rules = {
        "the data are CIFAR-10, without extra examples": config.data.name == "cifar10" and config.data.extra is None,
        "no setting names a file, such as the weights of another network": not any(row["files"] for row in rows),
        "the threat model is L-inf, eps 8/255, in [0, 1]": (
            config.threat.norm == "linf" and 255 * config.threat.eps == 8 and config.threat.box == [0, 1]
        ),
        "the score is taken in float32, with seed 0": (
            Precision.read(config.precision).score == "float32" and config.evaluation.seed == 0
        ),
        f"all {TEST_IMAGES:,} test images are attacked": sizes == {TEST_IMAGES},
        f"there are {FEWEST_SEEDS} seeds or more": len(rows) >= FEWEST_SEEDS,
        "all seeds run on GPUs of one kind": len(devices) == 1 and "cpu" not in devices,
        f"AutoAttack leaves {percent(GOAL, 0)} % in the mean over the seeds": accuracy >= GOAL,
    }
    return [rule for rule, is_kept in rules.items() if not is_kept]


def shown(result: Mapping[str, Any]) -> str:
    """The result as a table, with the rules that it breaks."""
    rows = result["seeds"]
    header = ["seed", "seconds", "first epoch", "clean %", "95 % interval", "AutoAttack %", "95 % interval", "n"]
    times, accuracies = [row["seconds"] for row in rows], [row["autoattack"]["accuracy"] for row in rows]
    spread = f"deviations {stdev(times):.1f} s and {percent(stdev(accuracies), 2)} %" if len(rows) > 1 else "one seed"
    verdict = ["no record; the rules that are broken:"] if result["broken_rules"] else ["a record by all rules"]
    return (
        f"{table(header, [cells(row) for row in rows])}\nmean: {mean(times):.1f} s, {percent(mean(accuracies), 2)} % "
        f"under AutoAttack ({spread}), on {rows[0]['device']}\n" + "\n  ".join(verdict + result["broken_rules"])
    )


def cells(row: Mapping[str, Any]) -> list[object]:
    """The cells of a seed's line."""
    scores = [
        text
        for share in (row["clean"], row["autoattack"])
        for text in (percent(share["accuracy"], 2), f"{percent(share['low'])} to {percent(share['high'])}")
    ]
    return [row["seed"], f"{row['seconds']:.1f}", f"{row['epoch_seconds'][0]:.1f}", *scores, row["autoattack"]["n"]]


def digest(file: ConfigFile) -> str:
    """The sha256 of a config, but for its seed and the place of the data."""
    config = file.config.model_dump() | {"seed": None}
    config["data"] = {key: value for key, value in config["data"].items() if key not in ("root", "download")}
    return hashlib.sha256(dump_config(config).encode()).hexdigest()


def as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


# In a ball of radius 1/2 nothing withstands AutoAttack's first part, so that its slow ones have nothing to do.
SMALL = ("threat.eps=1/2", "epochs=7", "device=cpu", "compile=off", "evaluation.attack={pgd: {steps: 2}}")
SMOKE = {
    "cifar10": ("model.width=4", "model.memory_format=contiguous", "data.train_per_class=4", "data.batch_size=20"),
    "digits": (
        "model={name: preact_tiny, memory_format: channels_last}",
        "data={name: digits, train_per_class: 4, validation: 1700, batch_size: 20, drop_last: true}",
    ),
}


def smoke(config: Path, overrides: Sequence[str], folder: Path) -> None:
    """Make a record of one seed on each of two data sets, small, in this process."""
    import pytest
    from torchvision import datasets

    sys.path.append(str(ROOT))  # behind all others: the tests can write files like CIFAR's
    from tests.image_sets import cifar

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as data:  # torchvision is told their md5
        cifar(Path(data), datasets.CIFAR10, patch, 10, "labels")
        for name, small in SMOKE.items():
            place = [f"data.root={data}"] if name == "cifar10" else []
            record(config, [*SMALL, *small, *place, *overrides], 1, folder / name, Race.run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the config")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the config (default: configs/speedrun.yaml)")
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS, help=f"number of seeds (default: {FEWEST_SEEDS})")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of all files (default: {FOLDER})")
    parser.add_argument("--smoke", action="store_true", help="try everything once, small, on the CPU")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds: expected 1 or more, got {options.seeds}")
    common = options.config, options.overrides
    if options.smoke:
        return exit_code_of(lambda: smoke(*common, options.folder))
    return exit_code_of(lambda: record(*common, options.seeds, options.folder, apart))


if __name__ == "__main__":
    sys.exit(main())
