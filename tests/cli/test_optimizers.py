"""Runs with other optimizers than plain SGD that are stopped: they end as the uninterrupted run does, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import CONFIG, Verb, stopped_at

OWN = """
from torch.optim import SGD


class Half(SGD):
    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(params, lr=lr / 2, momentum=momentum, weight_decay=weight_decay)
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "no_decay": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "no_decay": "norm,bias"},
    "layer_decay": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "no_decay": "norm", "layer_decay": 0.7},
    "muon": {"name": "muon", "lr": 0.02, "weight_decay": 0.1, "adamw_lr": 0.01, "no_decay": "norm", "layer_decay": 0.8},
    "accumulate": {"lr": 0.1, "momentum": 0.9, "accumulate": 3},
    "target": {"target": "own_half:Half", "lr": 0.1, "args": {"weight_decay": 0.1}, "no_decay": ["norm"]},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(workspace: Path, expect: Verb, settings: dict[str, Any]):
    (workspace / "own_half.py").write_text(OWN)
    layers = {"layers": [1], "groups": {1: ["layer1.*"], 2: ["layer2.*"], 3: ["layer3.*"]}}
    plugins = [{"pgd": {"steps": 1}}, {"rat_lr": layers}, "ema"]
    config = {**CONFIG, "optimizer": settings, "plugins": plugins, "epochs": 2}
    (workspace / "own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    expect("train", "own.yaml", "--run", "whole", "--runs", "out")
    with stopped_at(3):
        expect("train", "own.yaml", "--run", "parts", "--runs", "out", code=1)
    expect("resume", "out/small/parts")
    runs = [workspace / "out" / "small" / name for name in ("whole", "parts")]
    for name in ("last-live", "last-ema"):
        one, other = ((run / "weights" / f"{name}.safetensors").read_bytes() for run in runs)
        assert one == other
    written = yaml.safe_load((runs[0] / "config.yaml").read_text())["optimizer"]
    assert {key: written[key] for key in settings if key not in ("no_decay", "args")} == {
        key: value for key, value in settings.items() if key not in ("no_decay", "args")
    }
    expect("reproduce", "out/small/whole")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.accumulate=13"],
            "optimizer.accumulate: expected at most as many parts as a batch has examples, 12",
        ),
        (["optimizer.accumulate=0"], "optimizer.accumulate: "),
        (["optimizer.accumulate=2", "compile=model"], "optimizer.accumulate: 2 parts of a step make forwards again"),
        (["optimizer.accumulate=2", "model.batch_norm=sync"], "optimizer.accumulate: batch norm sees one of 2 parts"),
        (["optimizer.accumulate=2", "plugins=[pgd, randomized_at]"], "optimizer.accumulate: plugin 'randomized_at'"),
    ],
    ids=str,
)
def test_accumulation_that_does_not_fit_is_refused(expect: Verb, overrides: list[str], message: str):
    assert message in expect("config", "validate", "small.yaml", *overrides, code=2)


def test_parts_of_one_example_are_refused_where_batch_norm_takes_none(workspace: Path, expect: Verb):
    """24 of 40 examples, and the 16 that are left."""
    words = ["data.batch_size=24", "optimizer.accumulate=16", "model={target: 'flat:net'}", "--trust"]
    (workspace / "flat.py").write_text(
        "from torch import nn\n\n\ndef net() -> nn.Module:\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))\n"
    )
    assert "leave or, in 16 parts of a step, a batch of one example" in expect(
        "config", "validate", "small.yaml", *words, code=2
    )
    expect("config", "validate", "small.yaml", *words, "optimizer.accumulate=2")
