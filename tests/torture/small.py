"""The smallest runs: 14 random images of 4x4, a network of 63 parameters, 4 epochs of 4 steps."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from rich.console import Console

from buttress.config.file import ConfigFile, dump_config, load_config
from buttress.config.yaml_source import parse_yaml
from buttress.console.reporter import Reporter
from buttress.errors import InterruptionError
from buttress.storage.run_folder import RunFolder
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.trainer import Trainer

EPOCHS, STEPS = 4, 4  # the last batch of an epoch is incomplete


def small_config(work: Path, stack: Sequence[Any], **keys: Any) -> ConfigFile:
    """A config of these plugins; its data are written into ``work``."""
    path = work / "small.npz"
    if not path.exists():
        rng, arrays = np.random.default_rng(0), {}
        for split, n in (("train", 14), ("val", 8), ("test", 8)):
            arrays |= {f"x_{split}": rng.random((n, 1, 4, 4), dtype=np.float32), f"y_{split}": np.arange(n) % 3}
        np.savez(path, **arrays)
    extra: dict[str, Any] = {}
    if any("rst" in entry for entry in stack):
        extra = {"extra": {"name": "npz", "path": str(path), "share": "1/2"}}
    tree = {
        "name": "small",
        "data": {"name": "npz", "path": str(path), "batch_size": 4, **extra},
        "model": {"target": "tests.models:ConvNet"},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": list(stack),
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "piecewise", "milestones": [0.5]},
        "epochs": EPOCHS,
        "evaluation": {"every": 2, "attack": {"fgsm": {}}},
        "checkpoint": {"every": 2, "keep": 2},
        "log_every": 3,
        "device": "cpu",
    }
    return ConfigFile(parse_yaml(yaml.safe_dump({**tree, **keys}), "small.yaml"))


class SignallingReporter(Reporter):
    """Hears everything, prints nothing, and sends Ctrl-C when ``stop_at`` steps of the run are behind us."""

    def __init__(self, stop_at: int | None) -> None:
        super().__init__(console=Console(quiet=True))
        self._stop_at, self._steps = stop_at, 0
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)
        super().say(text)

    def begin(self, total: int, done: int) -> None:
        super().begin(total, done)
        self._steps = done
        self._stop_if_due()

    def advance(self, description: str) -> None:
        super().advance(description)
        self._steps += 1
        self._stop_if_due()

    def _stop_if_due(self) -> None:
        if self._steps == self._stop_at:
            os.kill(os.getpid(), signal.SIGINT)


@dataclass
class Outcome:
    """What came of a run: what it said, and which training examples each of its steps saw."""

    said: list[str] = field(default_factory=list)
    seen: list[list[int]] = field(default_factory=list)


def start(file: ConfigFile, path: Path, stop_at: int | None = None) -> Outcome:
    """Train a new run in the folder ``path``; Ctrl-C comes after ``stop_at`` steps."""
    return _train(file, path, stop_at, new=True)


def resume(path: Path, stop_at: int | None = None) -> Outcome:
    """Continue the run in ``path`` as ``buttress resume`` does, in this process."""
    ear: list[str] = []
    folder = existing_folder(path, ear.append)
    outcome = _train(load_config(folder.config), path, stop_at, new=False)
    return Outcome(ear + outcome.said, outcome.seen)


def _train(file: ConfigFile, path: Path, stop_at: int | None, *, new: bool) -> Outcome:
    folder, ear, outcome = RunFolder(path), SignallingReporter(stop_at), Outcome()
    with quickly():
        data, settings = load_data(file)
        torch.manual_seed(file.config.seed)
        assembly = assemble(file, data, settings, folder.history)
    _watch(assembly.engine, outcome.seen)
    if new:
        folder.create(dump_config(assembly.resolved), {"hardware": {"torch_threads": torch.get_num_threads()}})
        load_config(path / "config.yaml").own.trust()  # as a run of one's own is
    with folder.held(), quickly():
        trainer = Trainer(assembly, folder, ear)
        if not new:
            trainer.resume()
        try:
            trainer.run()
        except InterruptionError:
            if stop_at is None:
                raise
    outcome.said = ear.heard
    return outcome


def _watch(engine: Any, seen: list[list[int]]) -> None:
    step: Callable[..., Any] = engine.step

    def watched(*args: Any, index: torch.Tensor, **kwargs: Any) -> Any:
        seen.append(index.tolist())
        return step(*args, index=index, **kwargs)

    engine.step = watched


@contextmanager
def quickly() -> Iterator[None]:
    """Leave out what takes longer than the rest of such a run, the picture, and the answer to hundreds of Ctrl-C."""
    with patch("buttress.training.conclusion.draw_curves"), patch("buttress.processes._ANSWER", b""):
        yield
