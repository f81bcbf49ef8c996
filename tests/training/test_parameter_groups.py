"""The groups of parameters that a config asks of its optimizer, against steps written out by hand in float64."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.errors import ConfigError
from buttress.nn.weights import bias_names, norm_names, vector_names

from ..core.helpers import batch_of, step, weights_of
from ..models import ConvNet
from .optimizers import configured, engine_with

DECAY = {"lr": 0.1, "weight_decay": 0.5}
KINDS = {
    "norm": {"bn.weight", "bn.bias"},
    "bias": {"bn.bias", "linear.bias"},
    "vectors": {"bn.weight", "bn.bias", "linear.bias"},
}


def gradients(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Gradients of the mean cross-entropy on the batch of ``step``, by name; buffers stay as they are."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    batch = batch_of(seed=seed, dtype=torch.float64)
    grads = torch.autograd.grad(F.cross_entropy(model(batch.x), batch.y), list(model.parameters()))
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    return dict(zip(weights_of(model), grads, strict=True))


@pytest.mark.parametrize("words", ["norm", "bias", "norm,bias", "norm, bias", "vectors", ["norm", "bias"]], ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_no_decay_acts_on_the_parameters_that_are_named(words: Any, fused: bool):
    model = ConvNet().double()
    before, grads = weights_of(model), gradients(model)
    engine = engine_with(model, {**DECAY, "no_decay": words, "fused": fused})
    step(engine)
    kinds = words if isinstance(words, list) else words.replace(" ", "").split(",")
    undecayed = set[str]().union(*(KINDS[kind] for kind in kinds))
    for name, weight in model.named_parameters():
        decay = 0.0 if name in undecayed else 0.5
        expected = before[name] - 0.1 * (grads[name] + decay * before[name])
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)


def test_norms_biases_and_vectors_of_a_vision_transformer():
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3, init_values=1e-5)
    shapes = {name: weight.dim() for name, weight in model.named_parameters()}
    assert {name for name in shapes if "norm" in name} == norm_names(model)
    assert {name for name in shapes if name.endswith(".bias")} == bias_names(model)
    scales = {name for name in shapes if ".ls" in name}
    assert scales
    assert vector_names(model) == norm_names(model) | bias_names(model) | scales


def test_a_norm_that_is_not_torchs_is_a_norm():
    class Norm2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    class MyRmsNorm(Norm2):
        pass

    assert norm_names(nn.Sequential(MyRmsNorm(), nn.Linear(3, 3), nn.RMSNorm(3))) == {"0.scale", "2.weight"}


def test_plugins_split_the_groups_further_and_their_options_win():
    layers = {"groups": {"1": ["conv.*", "bn.*"], "2": ["linear.*"]}, "layers": [2]}
    engine = engine_with(ConvNet(), {**DECAY, "no_decay": "norm"}, {"rat_lr": {**layers, "lr": 0.01}}, epochs=2)
    options = [(len(group["params"]), group["weight_decay"], group["lr"]) for group in engine.optimizer.param_groups]
    assert options == [(1, 0.5, 0.1), (2, 0.5, 0.01), (2, 0.0, 0.1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"no_decay": "norm,biases"}, r"optimizer.no_decay.*biases"),
        ({"no_decay": 3}, r"optimizer.no_decay"),
        ({"name": "rprop", "no_decay": "norm"}, r"optimizer.no_decay: optimizer rprop has no weight_decay; leave this"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        configured(settings)


def test_nesterov_momentum_is_that_of_sutskever_in_the_form_of_torch():
    """``v <- mu v + g``, then ``w <- w - lr (g + mu v)``; lr is inside, where the schedule changes it."""
    model = ConvNet().double()
    velocity = {name: torch.zeros_like(weight) for name, weight in weights_of(model).items()}
    engine = engine_with(model, {"lr": 0.1, "momentum": 0.9, "nesterov": True})
    for number in range(3):
        engine.set_lr(1 / (1 + number), number)
        before, grads = weights_of(model), gradients(model, number)
        step(engine, seed=number)
        for name, weight in model.named_parameters():
            velocity[name] = 0.9 * velocity[name] + grads[name]
            expected = before[name] - 0.1 / (1 + number) * (grads[name] + 0.9 * velocity[name])
            torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ConfigError, match=r"SGD: .*[Nn]esterov"):
        configured({"nesterov": True})


@pytest.mark.parametrize("fused", [True, False])
def test_layer_decay_multiplies_the_learning_rate_once_for_each_layer_from_the_head(fused: bool):
    model = ConvNet().double()
    engine = engine_with(model, {**DECAY, "no_decay": "norm", "layer_decay": 0.75, "fused": fused})
    before, grads = weights_of(model), gradients(model)
    engine.set_lr(0.5, 0.0)
    step(engine)
    for name, weight in model.named_parameters():
        rate = 0.05 if name.startswith("linear") else 0.05 * 0.75
        decay = 0.0 if name.startswith("bn") else 0.5
        expected = before[name] - rate * (grads[name] + decay * before[name])
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)
    assert engine.optimizer.param_groups[0]["lr"] == 0.05  # the one that metrics show


def test_layer_decay_with_a_group_that_keeps_its_learning_rate():
    """RAT_LR's groups go on from the rate of their depth, or from one of their own."""
    groups = {"groups": {"1": ["conv.*", "bn.*"], "2": ["linear.*"]}, "layers": [1]}
    for own, expected in ((None, 0.1 * 0.5), (0.3, 0.3)):
        plugin = {"rat_lr": {**groups, **({} if own is None else {"lr": own})}}
        engine = engine_with(ConvNet(), {"lr": 0.1, "layer_decay": 0.5}, plugin, epochs=2)
        engine.set_lr(0.1, 1.0)
        assert [group["lr"] for group in engine.optimizer.param_groups] == pytest.approx([0.01, expected])


def test_layer_decay_is_refused_where_there_is_one_layer():
    with pytest.raises(ConfigError, match=r"optimizer.layer_decay: model Linear has one layer of depth"):
        engine_with(nn.Linear(16, 3), {"layer_decay": 0.75})


@pytest.mark.parametrize("decay", [0, 1.5, -1, "fast"])
def test_a_layer_decay_that_is_no_share_is_refused(decay: Any):
    with pytest.raises(ConfigError, match=r"optimizer.layer_decay"):
        configured({"layer_decay": decay})
