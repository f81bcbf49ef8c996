"""Models by target and weights to start from: what does not fit is named, and no file runs code."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.discovery.own_modules import import_target
from buttress.errors import CheckpointError, ModelError
from buttress.models import check_logits, load_weights
from buttress.storage.files import write_tensors

from .helpers import MLP, ConvNet, assert_same, snapshot


def save(path: Path, state: Any) -> Path:
    if path.suffix == ".safetensors":
        write_tensors(path, state)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
def test_weights_come_back_from_every_format(tmp_path: Path, name: str):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    load_weights(other, save(tmp_path / name, model.state_dict()))
    assert_same(snapshot(model), snapshot(other))


def test_weights_may_stand_under_state_dict(tmp_path: Path):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    load_weights(other, save(tmp_path / "w.pth", {"state_dict": model.state_dict(), "epoch": 3}))
    assert_same(snapshot(model), snapshot(other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv.weight"}, r"missing conv\.weight"),
        (lambda s: {**s, "extra": torch.zeros(1)}, "unexpected extra"),
        (lambda s: {**s, "linear.bias": torch.zeros(4)}, r"other shape linear\.bias"),
        (lambda s: MLP().state_dict(), r"missing bn\.bias, bn\.num_batches_tracked, .* \.\.\.; unexpected"),
    ],
)
def test_weights_of_another_model_are_refused_and_nothing_is_loaded(tmp_path: Path, change: Any, message: str):
    model = ConvNet()
    before = snapshot(model)
    path = save(tmp_path / "w.safetensors", change(ConvNet(seed=1).state_dict()))
    with pytest.raises(ModelError, match=rf"{path} holds the weights of another model: {message}"):
        load_weights(model, path)
    assert_same(before, snapshot(model))


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil-was-here"),))


def test_a_file_that_holds_code_is_refused_and_the_code_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    state = {"conv.weight": Evil()}
    torch.save(state, tmp_path / "zip.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(state))
    for name in ("zip.pth", "raw.pth"):
        with pytest.raises(CheckpointError, match=f"{name} is refused by torch's restricted loader"):
            load_weights(ConvNet(), tmp_path / name)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_missing_and_truncated_files_are_named(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match=f"{name} does not exist"):
        load_weights(ConvNet(), tmp_path / name)
    path = save(tmp_path / name, ConvNet().state_dict())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=f"{name}.*truncated"):
        load_weights(ConvNet(), path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {"w": 3}}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: Any):
    with pytest.raises(CheckpointError, match="expected a mapping of names to tensors, or one under 'state_dict'"):
        load_weights(ConvNet(), save(tmp_path / "w.pth", content))


# Targets and logits


def test_a_target_is_found_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_nets_for_a_test.py").write_text("class Net: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["elsewhere", *sys.path])
    assert import_target("my_nets_for_a_test:Net", "here").__name__ == "Net"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.nn.Linear", r"^here: expected package\.module:Class, got 'torch\.nn\.Linear'"),
        (":Net", r"^here: expected package\.module:Class"),
        ("torch.nn:", r"^here: expected package\.module:Class"),
        ("no_such_package_x:Net", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package_x'"),
        ("torch.nn:Liner", "cannot be imported: module torch.nn has no 'Liner'"),
    ],
)
def test_a_wrong_target_is_refused(target: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(ModelError, match=message):
        import_target(target, "here")


class Answering(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        assert not self.training
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: torch.zeros(2, 4), r"expected logits of shape \(2, 3\), got \(2, 4\); the data has 3 classes"),
        (lambda x: torch.zeros(2), r"expected logits .*, got one number for each example"),
        (lambda x: (torch.zeros(2, 3),), r"expected its forward to return logits .*, got a tuple of 1"),
        (lambda x: x @ torch.zeros(7, 3), r"cannot take inputs of shape \(2, 5\): RuntimeError"),
    ],
)
def test_a_model_that_gives_no_logits_is_refused(answer: Any, message: str):
    with pytest.raises(ModelError, match=rf"model Answering:? {message}"):
        check_logits(Answering(answer), torch.zeros(2, 5), 3)


def test_trying_a_model_leaves_it_as_found():
    model = ConvNet()
    before = snapshot(model)
    check_logits(model, torch.zeros(2, 1, 4, 4), 3)
    assert_same(before, snapshot(model))
    assert model.training
