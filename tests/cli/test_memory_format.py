"""Runs in channels_last: inputs, weights and activations have that layout in every forward of every verb."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

import buttress
from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import InterruptionError
from buttress.exporting.export import export_run, load_exported
from buttress.nn.layout import is_channels_last
from buttress.training.launch import continue_run, launch

from .conftest import stopped_at

WATCHING = '''
"""A network that keeps a record of the layouts in which it is called."""

from torch import nn

from buttress.nn.layout import is_channels_last

seen = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 2)
        self.norm, self.linear = nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, x):
        hidden = self.norm(self.first(x)).relu()
        if isinstance(self.first.weight, nn.Parameter):  # none that stands in for it
            tensors = (x, self.first.weight, hidden, self.second.weight)
            seen.append(tuple(map(is_channels_last, tensors)))
        return self.linear(self.second(hidden).flatten(2).mean(2))
'''

# A layer with a wrong gradient in channels_last, as avg_pool2d with padding has on CUDA in some versions of torch.
WRONG = """
import torch
from torch import nn

from buttress.nn.layout import is_channels_last


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.is_wrong = is_channels_last(x)
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return grad.roll(1, 2) if ctx.is_wrong else 2 * grad


class Wrong(nn.Module):
    def forward(self, x):
        return _Wrong.apply(x)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Wrong(), nn.Flatten(), nn.Linear(36, 4))
"""

CONFIG = {
    "name": "last",
    "data": {"name": "npz", "path": "images.npz", "batch_size": 8},
    "model": {"target": "watching_layouts:Net", "memory_format": "channels_last"},
    "threat": {"norm": "linf", "eps": "8/255"},
    "plugins": [{"augment": {"pad": 1}}, {"pgd": {"steps": 1}}, {"awp": {"gamma": 0.01}}, {"meat": {"start": 0}}],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "epochs": 2,
    "evaluation": {"attack": {"pgd": {"steps": 1}}},
}
EVERYTHING = {(True, True, True, True)}


def layouts() -> set[tuple[bool, ...]]:
    """The layouts of x, weights and activations in all forwards since the last call."""
    import watching_layouts

    seen = set(watching_layouts.seen)
    watching_layouts.seen.clear()
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, ``a``, that was stopped after its third step and resumed."""
    folder = tmp_path_factory.mktemp("layouts")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 16), ("val", 8), ("test", 8)):
        arrays |= {f"x_{split}": rng.random((n, 3, 5, 5), dtype=np.float32), f"y_{split}": np.arange(n) % 4}
    np.savez(folder / "images.npz", **arrays)
    (folder / "watching_layouts.py").write_text(WATCHING)
    (folder / "wrong_in_one.py").write_text(WRONG)
    (folder / "wrong.yaml").write_text(
        yaml.safe_dump(
            {**CONFIG, "name": "wrong", "model": {"target": "wrong_in_one:net", "memory_format": "channels_last"}}
        )
    )
    (folder / "last.yaml").write_text(yaml.safe_dump(CONFIG))
    with stopped_at(3), pytest.raises(InterruptionError):
        launch(load_config(folder / "last.yaml"), folder, "a", forecast=False)
    assert layouts() == EVERYTHING
    continue_run(folder / "last" / "a")
    assert layouts() == EVERYTHING
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "last/a", "--track", "meat", "--attack", "pgd-1"],
        ["evaluate", "last/a/weights/last-live.safetensors", "--config", "last.yaml", "--attack", "fgsm"],
        ["audit", "last/a", "--examples", "4"],
        ["ensemble", "last/a/weights/last-live.safetensors", "last/a/weights/best-live.safetensors", "--output",
         "made.safetensors", "--reestimate", "last/a"],
        ["train", "last.yaml", "--dry-run", "model.weights=last/a/weights/last-live.safetensors"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_every_verb_keeps_the_layout(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    assert main(words) == 0
    assert layouts() == EVERYTHING


class Convolutions(TorchDispatchMode):
    """Keeps a record of the layouts of convolutions' outputs in the block."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        output = function(*args, **(kwargs or {}))
        if "conv" in str(function):
            self.seen.append(is_channels_last(output))
        return output


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
def test_the_exported_program_runs_in_the_layout_and_takes_inputs_of_either(folder: Path):
    export_run(folder / "last" / "a", folder / "out", checkpoint="last")
    layouts()
    own = buttress.load_model(folder / "last" / "a", checkpoint="last")
    assert "model.to(memory_format=torch.channels_last)" in (folder / "out" / "README.md").read_text()
    x = torch.rand(5, 3, 5, 5)
    for model in (load_exported(folder / "out"), torch.export.load(folder / "out" / "model.pt2").module()):
        assert is_channels_last(model.get_parameter("second.weight"))
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            with torch.no_grad(), Convolutions() as convolutions:
                logits = model(given)
            assert convolutions.seen == [True, True]
            torch.testing.assert_close(logits, own(given))


def test_of_what_are_no_images_weights_alone_are_refused_too(folder: Path, capsys: pytest.CaptureFixture[str]):
    weights = str(folder / "last" / "a" / "weights" / "last-live.safetensors")
    words = ["model.name=mlp", "model.memory_format=channels_last", "data.name=circles"]
    assert main(["evaluate", weights, *words, "threat={norm: l2, eps: 1/10, box: null}"]) == 2
    assert "channels_last is a layout of images [C,H,W], and these examples have shape" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["train", "wrong.yaml"], ["doctor", "--model", "wrong.yaml"]], ids=lambda words: words[0]
)
def test_a_gradient_that_is_wrong_in_the_layout_is_one_error(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "wrong.yaml:11: model.memory_format: model Sequential: in channels_last its input gradients are" in said
    assert "in float64, by layer '1' (Wrong)" in said
    assert "use memory_format: contiguous" in said
    assert not Path("runs").exists()


def test_in_the_contiguous_layout_that_model_trains_and_doctor_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    words = ["model.memory_format=contiguous", "epochs=1", "--run", "b", "--runs", str(folder)]
    assert main(["train", "wrong.yaml", *words]) == 0
    capsys.readouterr()
    assert main(["doctor", "--json", "--model", "wrong/b/config.yaml"]) == 0
    facts = json.loads(capsys.readouterr().out)["model"]
    assert facts["channels_last"].startswith("not usable: in channels_last its input gradients are wrong, by ")
    assert facts["bf16"] == facts["float64"] == "input gradients and weight gradients"
