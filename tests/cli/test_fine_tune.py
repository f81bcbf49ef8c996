"""From a library's file of weights to a run, its checkpoints and an export that the library loads again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from buttress.cli import main
from buttress.config.file import load_config
from buttress.training.assembly import check_config
from buttress.training.checkpoint_file import MODEL_PREFIX
from buttress_plugins.models.preact_resnet import preact_tiny

MAKE: dict[str, Callable[..., nn.Module]] = {"torchvision": models.get_model, "timm": timm.create_model}
ARCHITECTURES = {"torchvision": "shufflenet_v2_x0_5", "timm": "test_resnet"}


@pytest.fixture(params=MAKE)
def library(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a library; the working folder has a config, data of 4 classes and a script's weights of 9."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = {f"x_{split}": rng.random((8, 3, 32, 32), dtype=np.float32) for split in ("train", "val", "test")}
    np.savez("small.npz", **x, **{name.replace("x", "y"): np.arange(8) % 4 for name in x})
    torch.manual_seed(1)
    net = MAKE[request.param](ARCHITECTURES[request.param], num_classes=9)
    weights = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, "pretrained.pth.tar")
    config: dict[str, Any] = {
        "name": "tuned",
        "data": {"name": "npz", "path": "small.npz", "batch_size": 4},
        "model": {
            "name": request.param,
            "arch": ARCHITECTURES[request.param],
            "weights": {"file": "pretrained.pth.tar", "except": ["fc"]},
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
        },
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": ["fgsm", {"meat": {"start": 0}}],
        "optimizer": {"lr": 1e-12},
        "epochs": 2,
        "evaluation": {"attack": {"fgsm": {}}},
    }
    Path("tuned.yaml").write_text(yaml.safe_dump(config))
    name: str = request.param
    return name


def test_runs_checkpoints_and_exports_have_the_names_of_the_library(library: str, capsys: pytest.CaptureFixture[str]):
    net = MAKE[library](ARCHITECTURES[library], num_classes=4)
    names = set(net.state_dict())
    assert main(["train", "tuned.yaml", "--run", "a"]) == 0
    run = Path("runs/tuned/a")
    assert main(["evaluate", str(run), "--attack", "fgsm"]) == 0
    assert main(["export", str(run), "--output", "out"]) == 0
    for path in [*run.glob("weights/*.safetensors"), Path("out/model.safetensors")]:
        assert set(load_file(path)) == names, path
        net.load_state_dict(load_file(path))
    for path in run.glob("checkpoints/*.safetensors"):
        assert {MODEL_PREFIX + name for name in names} <= set(load_file(path))
    history = next(run.glob("history/meat/*.safetensors"))
    assert set(load_file(history)) == {name for name, _ in net.named_parameters()}

    # At this learning rate nothing moves: the body is the file's, the head is fresh, and the logits are the library's.
    given, trained = torch.load("pretrained.pth.tar")["state_dict"], load_file(run / "weights/last-live.safetensors")
    for name, _ in net.named_parameters():
        if name.startswith("fc."):
            assert trained[name].shape != given[f"module.{name}"].shape
        else:
            torch.testing.assert_close(trained[name], given[f"module.{name}"])

    # Back into a run, whole now, with and without what the wrappers of others add.
    torch.save({"ema": {f"_orig_mod.model.{name}": t for name, t in trained.items()}}, "mine.ckpt")
    for file in ("out/model.safetensors", "mine.ckpt"):
        assert main(["train", "tuned.yaml", "--dry-run", f"model.weights={file}"]) == 0
    capsys.readouterr()
    assert main(["train", "tuned.yaml", "--dry-run", "model.weights=pretrained.pth.tar"]) == 2
    said = capsys.readouterr().err
    assert "fits but for the head" in said
    assert "weights: {file: pretrained.pth.tar, except: [fc]}" in said


def test_weights_are_looked_up_beside_the_config(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["train", "../tuned.yaml", "--run", "a", "epochs=1"]) == 0
    resolved = yaml.safe_load(Path("runs/tuned/a/config.yaml").read_text())
    assert resolved["model"]["weights"] == {"file": "pretrained.pth.tar", "except": ["fc"], "key": None}
    assert resolved["folder"] == str(tmp_path)
    assert main(["train", "../tuned.yaml", "--dry-run", "model.weights.file=../pretrained.pth.tar"]) == 0
    assert main(["train", "runs/tuned/a/config.yaml", "--dry-run"]) == 0
    capsys.readouterr()
    (tmp_path / "pretrained.pth.tar").unlink()
    assert main(["train", "../tuned.yaml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "pretrained.pth.tar does not exist; file is pretrained.pth.tar, which was looked up in" in said
    assert f"{tmp_path} and in {elsewhere}" in said


def test_a_stopped_run_with_a_fresh_head_goes_on(library: str):
    assert main(["train", "tuned.yaml", "--run", "whole"]) == 0
    assert main(["train", "tuned.yaml", "--run", "again", "checkpoint.keep=5"]) == 0
    newest = sorted(Path("runs/tuned/again/checkpoints").glob("*.json"))[-1]
    newest.unlink()
    assert main(["resume", "runs/tuned/again"]) == 0
    one, two = (load_file(f"runs/tuned/{name}/weights/last-live.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_pattern_leaves_the_head_of_another_number_of_classes_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    net = preact_tiny(in_channels=1, num_classes=7, width=4)
    torch.save(net.state_dict(), "seven.pt")
    config = {
        "name": "head",
        "data": {"name": "digits", "train_per_class": 4, "validation": 20},
        "model": {"name": "preact_tiny", "width": 4, "weights": {"file": "seven.pt", "except": ["linear.*"]}},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": ["fgsm"],
        "optimizer": {"lr": 0.1},
        "epochs": 1,
    }
    Path("head.yaml").write_text(yaml.safe_dump(config))
    state = check_config(load_config(Path("head.yaml"))).engine.model.state_dict()
    assert state["linear.weight"].shape == (10, net.linear.in_features)
    for name, value in net.state_dict().items():
        assert name.startswith("linear.") or torch.equal(state[name], value), name
