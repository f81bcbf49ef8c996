"""Small runs: on 40 random images of 8x8 with every built-in ensemble, and, finished, on digits with flipped labels."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from buttress.cli import main
from buttress.training.trainer import Trainer

Run = Callable[..., subprocess.CompletedProcess[str]]
Verb = Callable[..., str]

CONFIG = {
    "name": "small",
    "data": {"name": "npz", "path": "small.npz", "batch_size": 12},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "8/255"},
    "plugins": [
        {"pgd": {"steps": 2}},
        {"meat": {"start": 1}},
        {"ema": {"tau": 0.9, "start": 1, "warmup": True, "buffers": "ema"}},
        "swa",
    ],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": {"name": "piecewise", "milestones": [0.5]},
    "epochs": 4,
    "evaluation": {"every": 2, "attack": {"pgd": {"steps": 2}}},
    "checkpoint": {"every": 1, "keep": 2},
    "seed": 3,
}


def make_workspace(folder: Path) -> None:
    """Put ``small.npz`` and ``small.yaml`` into a folder."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 40), ("val", 20), ("test", 20)):
        arrays[f"x_{split}"] = rng.random((n, 1, 8, 8), dtype=np.float32)
        arrays[f"y_{split}"] = np.arange(n) % 4
    np.savez(folder / "small.npz", **arrays)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``small.npz`` and ``small.yaml`` in it."""
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def buttress(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, which has torch loaded already; returns what it said."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main(list(words))
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


@pytest.fixture
def apart(workspace: Path) -> Run:
    """Runs the command in a process of its own, in seconds; returns what it said."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=workspace,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            timeout=120,
        )

    return run


@pytest.fixture
def expect(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb, which has to end with ``code``; returns what it said."""

    def run(*words: str, code: int = 0) -> str:
        found = main(list(words))
        said = "".join(capsys.readouterr())
        assert found == code, said
        return said

    return run


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Runs stop before that global step, as by Ctrl-C."""
    asked = Trainer._stop_if_asked

    def stop(trainer: Trainer) -> None:
        if trainer._engine.global_step == step:
            trainer._stop.signal = "SIGINT"
        asked(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stop)
        yield


NOISY = {
    "name": "noisy",
    "data": {"name": "digits", "train_per_class": 6, "validation": 1700, "label_noise": 0.25, "batch_size": 20},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": [{"pgd": {"steps": 2, "step_size": "1/20"}}, {"meat": {"start": 1}}],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "schedule": {"name": "piecewise", "milestones": [0.5]},
    "epochs": 4,
    "evaluation": {"every": 2, "attack": {"pgd": {"steps": 2, "step_size": "1/20"}}, "train": True},
    "checkpoint": {"every": 1, "keep": 2},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs ``s0`` and ``s1``, which differ in their seed alone; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "noisy.yaml").write_text(yaml.safe_dump(NOISY, sort_keys=False))
    for seed in (0, 1):
        words = [str(folder / "noisy.yaml"), f"seed={seed}", "--runs", str(folder), "--run", f"s{seed}"]
        assert main(["train", *words]) == 0
    return folder / "noisy"


@pytest.fixture
def noisy(trained: Path, tmp_path: Path) -> Path:
    """A copy of those runs."""
    return Path(shutil.copytree(trained, tmp_path / "noisy"))
