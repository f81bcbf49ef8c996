"""A small run: 40 random images of 8x8, a model of a few hundred parameters, every built-in ensemble."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

Run = Callable[..., subprocess.CompletedProcess[str]]

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
def buttress(workspace: Path) -> Run:
    """Runs the command in a process of its own; returns what it said."""

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
