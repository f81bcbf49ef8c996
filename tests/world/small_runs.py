"""Small runs on the ranks of a test, stopped after any step and continued on any number of ranks."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from buttress.config.file import dump_config, load_config
from buttress.console.reporter import Reporter
from buttress.data import Data, Split
from buttress.engine.world import World
from buttress.errors import InterruptionError
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_weights
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data
from buttress.training.launch import continue_run, start
from buttress.training.ranks import at_work_in
from buttress.training.records import read_metrics
from buttress.training.rng_states import seed_globally
from buttress.training.trainer import Trainer

from ..torture.small import SignallingReporter, quickly, small_config


def write_config(work: Path, model: str = "ConvNet", batch_norm: str = "sync", **keys: Any) -> Path:
    """The config of a run of 16 steps in float64, with three tracks."""
    stack = ["fgsm", {"meat": {"start": 1}}, {"ema": {"tau": 0.5}}]
    network = {"target": f"tests.models:{model}", "batch_norm": batch_norm}
    file = small_config(work, stack, precision="float64", model=network, **keys)
    path = work / "small.yaml"
    path.write_text(yaml.safe_dump(file.config.model_dump(mode="json", exclude_defaults=True)))
    return path


def train(world: World, config: Path, run: str, stop_at: int | None = None) -> None:
    """Train a new run; a signal to the last rank stops it after so many steps."""
    with quickly():
        file = load_config(config)
        started = start(file, config.parent / "runs", run, forecast=False, world=world, reporter=_quiet())
        assert started is not None
        is_last = world.rank == world.size - 1
        reporter = SignallingReporter(stop_at if is_last else None)
        try:
            dataclasses.replace(started, reporter=reporter).finish()
        except InterruptionError:
            assert stop_at is not None


def resume(world: World, config: Path, run: str) -> list[str]:
    """Continue it to the end; the lines that the user was told."""
    reporter = SignallingReporter(None)
    with quickly():
        continue_run(folder_of(config, run).path, reporter, world=world)
    return reporter.heard


def folder_of(config: Path, run: str) -> RunFolder:
    return RunFolder(config.parent / "runs" / "small" / run)


def end_of(folder: RunFolder) -> dict[str, bytes]:
    """Bytes of the files that a run leaves: weights of every track, metrics, summary."""
    files = [*sorted(folder.weights.glob("*.safetensors")), folder.metrics, folder.summary]
    return {path.name: path.read_bytes() for path in files}


def numbers_of(folder: RunFolder) -> dict[str, Any]:
    """Values of the weights of every track, and of the metrics."""
    weights = {path.name: read_weights(path)[0] for path in sorted(folder.weights.glob("last-*.safetensors"))}
    lines = [line for event in ("train", "epoch", "evaluation") for line in read_metrics(folder).events(event)]
    numbers = [[value for value in line.values() if isinstance(value, (int, float))] for line in lines]
    return {"weights": weights, "metrics": numbers}


def _quiet() -> Reporter:
    return Reporter(console=Console(quiet=True))


def train_recipe(world: World, recipe: Path, overrides: list[str], path: Path) -> RunFolder:
    """Train a recipe with overrides, and score it on a few images.

    It has no forecast, no manifest and no picture, which would take longer than its steps.
    """
    folder = RunFolder(path)
    with quickly():
        file = load_config(recipe, overrides)
        data, settings = load_data(file)
        seed_globally(world, file.config.seed)
        assembly = assemble(file, _with_few_tests(data), settings, folder.history, world)
        if world.is_main:
            folder.create(dump_config(assembly.resolved), {"hardware": {}})
        world.wait("run folder")
        with at_work_in(folder, world, _quiet()):
            Trainer(assembly, folder, _quiet()).run()
    return folder


def _with_few_tests(data: Data) -> Data:
    test = data.test
    return dataclasses.replace(data, test=Split(test.x[:20], test.y[:20], test.memory_format))
