"""A run with ``compile: model``: the graphs of its epochs, its end after a stop in between, its evaluation."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch._dynamo.utils import counters

from buttress.config.file import load_config
from buttress.engine.torch_compile import CompiledPasses
from buttress.errors import ConfigError, InterruptionError
from buttress.training.launch import continue_run, launch

from .conftest import CONFIG, Verb, stopped_at


@pytest.fixture
def config(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small config, compiled into the graphs that torch traces, which run without a C++ compiler."""
    init = CompiledPasses.__init__
    monkeypatch.setattr(CompiledPasses, "__init__", lambda self, model: init(self, model, "aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    path = workspace / "compiled.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "compile": "model", "epochs": 2}, sort_keys=False))
    return path


def test_a_stopped_run_goes_on_in_its_two_graphs_to_the_same_end(
    workspace: Path, config: Path, expect: Verb, tmp_path: Path
):
    launch(load_config(config), tmp_path, "whole", forecast=False)
    assert counters["stats"]["unique_graphs"] == 2
    with stopped_at(3), pytest.raises(InterruptionError):
        launch(load_config(config), tmp_path, "parts", forecast=False)
    assert counters["stats"]["unique_graphs"] == 4
    continue_run(tmp_path / "small" / "parts")
    assert counters["stats"]["unique_graphs"] == 6
    for track in ("live", "meat", "ema", "swa"):
        one, other = (tmp_path / "small" / run / "weights" / f"last-{track}.safetensors" for run in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes()
    expect("evaluate", str(tmp_path / "small" / "whole"), "--attack", "pgd-2")
    assert counters["stats"]["unique_graphs"] == 7  # one: no training
    (result,) = (tmp_path / "small" / "whole" / "eval").glob("*.json")
    assert json.loads(result.read_text())["n"] == 20


def test_graphs_on_the_cpu_are_refused_before_a_run_folder_exists(workspace: Path, config: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"compile.*: graphs are CUDA graphs, and the model is on cpu"):
        launch(load_config(config, ["compile=graphs"]), tmp_path, "a", forecast=False)
    assert not (tmp_path / "small").exists()
