"""The momentum of batch norm in the first step of a run, and after it."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from buttress import Engine

from .conftest import CONFIG, Verb, stopped_at


@pytest.fixture
def seen(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Momentum before each step of a run, and the largest difference of a running mean after it from zero."""
    config = {**CONFIG, "plugins": ["clean"], "epochs": 1}
    (workspace / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    momenta: list[tuple[float, float]] = []
    step = Engine.step

    def noted(engine: Engine, *args: object, **options: object) -> object:
        norms = [module for module in engine.model.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta.append((norms[0].momentum or 0.0, float(norms[0].running_mean.abs().max())))  # type: ignore[union-attr]
        return step(engine, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "step", noted)
    return momenta


@pytest.mark.parametrize(
    ("keys", "momenta"),
    [
        ([], [0.1, 0.1, 0.1]),
        (["model.bn_momentum=0.01"], [0.01, 0.01, 0.01]),
        (["model.bn_first_momentum=1"], [1.0, 0.1, 0.1]),
        (["model.bn_first_momentum=1", "model.bn_momentum=0.01"], [1.0, 0.01, 0.01]),
    ],
    ids=str,
)
def test_the_momentum_of_each_step(
    expect: Verb, seen: list[tuple[float, float]], keys: list[str], momenta: list[float]
):
    expect("train", "small.yaml", "--run", "one", "--runs", "out", *keys)
    assert [momentum for momentum, _ in seen[-4:-1]] == momenta  # 40 examples in batches of 12


def test_the_first_step_forgets_where_the_statistics_began(workspace: Path, expect: Verb, seen: list[object]):
    """With momentum 1 and then 0 the running statistics stay those of the first batch."""
    expect(
        *("train", "small.yaml", "--run", "one", "--runs", "out", "optimizer.lr=1e-9"),
        *("model.bn_first_momentum=1", "model.bn_momentum=0"),
    )
    weights = load_file(workspace / "out" / "small" / "one" / "weights" / "last-live.safetensors")
    means = torch.cat([value for name, value in weights.items() if name.endswith("running_mean")])
    variances = torch.cat([value for name, value in weights.items() if name.endswith("running_var")])
    assert means.abs().min() > 0
    assert (variances - 1).abs().min() > 1e-3


def test_a_stopped_run_goes_on_with_the_later_momentum(workspace: Path, expect: Verb, seen: list[object]):
    words = ["--runs", "out", "model.bn_first_momentum=1", "model.bn_momentum=0.01", "epochs=2"]
    expect("train", "small.yaml", "--run", "whole", *words)
    with stopped_at(1):
        expect("train", "small.yaml", "--run", "parts", *words, code=1)
    expect("resume", "out/small/parts")
    one, other = (
        workspace / "out" / "small" / name / "weights" / "last-live.safetensors" for name in ("whole", "parts")
    )
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("key", ["bn_momentum", "bn_first_momentum"])
def test_what_does_not_fit_is_refused(expect: Verb, seen: list[object], key: str):
    assert f"model.{key}: " in expect("config", "validate", "small.yaml", f"model.{key}=1.5", code=2)
    words = ["config", "validate", "small.yaml", f"model={{name: mlp, {key}: 0.5}}"]
    assert f"model.{key}: model Sequential has no batch norm with running statistics" in expect(*words, code=2)
