"""Models by target and weights to start from: what does not fit is named, and no file runs code."""

import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.components.own_modules import import_target
from buttress.errors import CheckpointError, ModelError
from buttress.nn.loading import check_logits, load_weights
from buttress.storage.files import write_tensors

from ..core.helpers import assert_same, snapshot
from ..models import MLP, ConvNet


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
        (lambda s: {**s, "bn.weight": torch.zeros(5)}, r"other shape bn\.weight"),
        (lambda s: MLP().state_dict(), r"missing bn\.bias, bn\.running_mean, .* \.\.\.; unexpected"),
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
    with pytest.raises(CheckpointError, match=r"w\.pth holds no weights: expected a mapping of names to tensors"):
        load_weights(ConvNet(), save(tmp_path / "w.pth", content))


# Wrappers and containers


def wrapped(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "net.", "_orig_mod.module.", "module._orig_mod.model.", "a.b.c."]
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_prefixes_of_wrappers_make_no_difference(tmp_path: Path, name: str, prefix: str):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    load_weights(other, save(tmp_path / name, wrapped(model.state_dict(), prefix)))
    assert_same(snapshot(model), snapshot(other))


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "around": Around,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "parallel": nn.DataParallel,
    "parallel and compiled": lambda net: torch.compile(nn.DataParallel(net), backend="eager"),
    "compiled inside": lambda net: Around(torch.compile(net, backend="eager")),
    "averaged": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_weights_go_from_every_wrapper_into_the_plain_model_and_back(tmp_path: Path, kind: str):
    wrap = WRAPPERS[kind]
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    load_weights(other, save(tmp_path / "w.pth", wrap(model).state_dict()))
    assert_same(snapshot(model), snapshot(other))
    if kind != "averaged":  # which counts, too
        third = ConvNet(seed=3)
        load_weights(wrap(third), save(tmp_path / "plain.pth", model.state_dict()))
        assert_same(snapshot(model), snapshot(third))


def test_markers_of_wrappers_may_stand_among_names(tmp_path: Path):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    state = {name.replace("conv.", "conv._orig_mod."): tensor for name, tensor in model.state_dict().items()}
    state = {name.replace("bn.", "bn._checkpoint_wrapped_module."): tensor for name, tensor in state.items()}
    load_weights(other, save(tmp_path / "w.pth", wrapped(state, "_fsdp_wrapped_module.")))
    assert_same(snapshot(model), snapshot(other))


KEYS = ["state_dict", "model_state_dict", "model", "ema", "net", "state_dict_ema", "checkpoint.model", "module"]


@pytest.mark.parametrize("key", KEYS)
def test_weights_may_stand_under_any_key_beside_other_things(tmp_path: Path, key: str):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(torch.zeros(2, 1, 4, 4)), torch.zeros(2, dtype=torch.long)).backward()
    optimizer.step()
    content: Any = wrapped(model.state_dict(), "module.")
    for part in reversed(key.split(".")):
        content = {part: content}
    rest = {"epoch": 3, "best": torch.tensor(0.5), "optimizer": optimizer.state_dict(), "args": Namespace(lr=0.1)}
    load_weights(other, save(tmp_path / "w.pth", {**content, **rest}))
    assert_same(snapshot(model), snapshot(other))


def test_two_sets_that_fit_and_differ_ask_for_a_key(tmp_path: Path):
    live, ema, other = ConvNet(seed=1), ConvNet(seed=2), ConvNet(seed=3)
    path = save(tmp_path / "w.pth", {"model": live.state_dict(), "ema": wrapped(ema.state_dict(), "module.")})
    before = snapshot(other)
    with pytest.raises(
        ModelError, match=r"2 sets of weights that fit and differ: 'model', 'ema'; choose .* key: ema\}"
    ):
        load_weights(other, path)
    assert_same(before, snapshot(other))
    load_weights(other, path, key="ema")
    assert_same(snapshot(ema), snapshot(other))
    with pytest.raises(ModelError, match="no weights under the key 'emma'; did you mean 'ema'"):
        load_weights(other, path, key="emma")


def test_two_equal_sets_are_one(tmp_path: Path):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    load_weights(other, save(tmp_path / "w.pth", {"model": model.state_dict(), "ema": model.state_dict()}))
    assert_same(snapshot(model), snapshot(other))


@pytest.mark.parametrize("names", [["w"], ["model", "ema"]])
def test_equal_sets_may_hold_nan(tmp_path: Path, names: list[str]):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    load_weights(other, save(tmp_path / "w.pth", {name: model.state_dict() for name in names}))
    assert next(other.parameters()).isnan().all()


@pytest.mark.parametrize("key", ["model", "ema", "nested.ema"])
def test_one_mapping_under_several_keys_is_found_under_each(tmp_path: Path, key: str):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    state = model.state_dict()
    load_weights(other, save(tmp_path / "w.pth", {"model": state, "ema": state, "nested": {"ema": state}}), key=key)
    assert_same(snapshot(model), snapshot(other))


@pytest.mark.parametrize("depth", [3, 60])
def test_a_file_that_holds_one_mapping_in_many_places_is_read_once(tmp_path: Path, depth: int):
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    content: Any = model.state_dict()
    for _ in range(depth):  # 2 ** depth ways lead to it
        content = {"a": content, "b": content}
    load_weights(other, save(tmp_path / "w.pth", content))
    assert_same(snapshot(model), snapshot(other))


def test_files_from_before_batch_norm_counted_are_taken(tmp_path: Path):
    """As the published weights of torchvision's ResNets are."""
    model, other = ConvNet(seed=1), ConvNet(seed=2)
    model.bn.running_mean += 1
    state = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    load_weights(other, save(tmp_path / "w.pth", state))
    assert_same(snapshot(model), snapshot(other))


# Another head


def test_a_head_that_differs_is_named_with_what_to_do(tmp_path: Path):
    other = nn.Sequential(OrderedDict(ConvNet(seed=1).named_children()))
    other.linear = nn.Linear(4, 10)
    model = ConvNet(seed=2)
    path = save(tmp_path / "w.pth", wrapped(other.state_dict(), "module."))
    with pytest.raises(
        ModelError,
        match=r"w\.pth fits but for the head: linear\.weight is \[3, 4\] in the model and \[10, 4\] in the file, "
        r"linear\.bias is \[3\] in the model and \[10\] in the file; .* \{file: .*w\.pth, except: \[linear\]\}",
    ):
        load_weights(model, path)


def test_a_head_of_another_name_is_named_on_both_sides(tmp_path: Path):
    state = {name.replace("linear", "fc"): tensor for name, tensor in ConvNet().state_dict().items()}
    with pytest.raises(
        ModelError, match=r"fits but for the head: .*linear.* in the model alone.*except: \[linear, fc\]"
    ):
        load_weights(ConvNet(), save(tmp_path / "w.pth", state))


@pytest.mark.parametrize("fresh", [["linear"], ["linear.*"], ["linear.weight", "linear.bias"], ["lin*", "*.bias"]])
def test_what_is_left_fresh_keeps_its_values_and_the_rest_is_loaded(tmp_path: Path, fresh: list[str]):
    source, model = ConvNet(seed=1), ConvNet(seed=2)
    source.linear = nn.Linear(4, 10)
    before = snapshot(model)
    load_weights(model, save(tmp_path / "w.pth", wrapped(source.state_dict(), "module.")), fresh=fresh)
    after = snapshot(model)
    assert torch.equal(after["conv.weight"], source.conv.weight)
    assert torch.equal(after["linear.weight"], before["linear.weight"])
    assert torch.equal(after["linear.bias"], before["linear.bias"])


def test_parts_of_the_file_alone_can_be_left_out(tmp_path: Path):
    """As of Lightning's files, which hold metrics and losses beside the model."""
    source, model = ConvNet(seed=1), ConvNet(seed=2)
    state = {**wrapped(source.state_dict(), "model."), "criterion.weight": torch.ones(3)}
    path = save(tmp_path / "w.ckpt", {"state_dict": state})
    with pytest.raises(ModelError, match="another model"):
        load_weights(model, path)
    load_weights(model, path, fresh=["criterion"])
    assert_same(snapshot(source), snapshot(model))
    load_weights(model, path, fresh=["criterion", "linear"])


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        (["liner"], "except: 'liner' names nothing in the model or in .*; did you mean 'linear'"),
        (["*"], "leaves nothing"),
    ],
)
def test_an_exception_that_makes_no_sense_is_refused(tmp_path: Path, fresh: list[str], message: str):
    with pytest.raises(ModelError, match=message):
        load_weights(ConvNet(), save(tmp_path / "w.pth", ConvNet().state_dict()), fresh=fresh)


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
def test_a_wrong_target_is_refused(target: str, message: str):
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
        (lambda x: x @ torch.zeros(7, 3), r"cannot take inputs of shape \(2, 5\): RuntimeError.*; choose a model"),
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
