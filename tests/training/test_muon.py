"""Muon with AdamW beside it: against torch's own two, and against the iteration written out in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.errors import ConfigError
from buttress.training.muon import Muon
from buttress_plugins.models.preact_resnet import preact_tiny

from ..core.helpers import step
from ..models import ConvNet
from .optimizers import configured, engine_with

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")

MUON: dict[str, Any] = {"name": "muon", "lr": 0.02}


def gradients(shape: tuple[int, ...], count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def stepped(weight: Tensor, bias: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """A weight and a bias after three steps, in the memory of ``weight``."""
    weight, bias = nn.Parameter(weight), nn.Parameter(bias.clone())
    optimizer = Muon([weight, bias], lr=0.02, **settings)
    for grad in gradients(tuple(weight.shape)):
        weight.grad, bias.grad = grad.clone(), grad.flatten(1)[:, 0].clone()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return weight.detach(), bias.detach()


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (40, 3, 3, 3), (6, 27), (8, 8), (4, 3, 2), (1, 4, 1, 1)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": "match_rms_adamw", "weight_decay": 0.1}, {"nesterov": False, "momentum": 0.5, "ns_steps": 3}],
    ids=str,
)
def test_it_is_torchs_muon_on_flattened_convolutions(shape: tuple[int, ...], settings: dict[str, Any]):
    (values,) = gradients(shape, 1)
    made, _ = stepped(values.clone(), values.flatten(1)[:, 0], **settings)
    matrix = nn.Parameter(values.flatten(1).clone())
    options = {"weight_decay": 0.0, **settings}
    options["adjust_lr_fn"] = options.pop("scale", None)
    optimizer = torch.optim.Muon([matrix], lr=0.02, **options)
    for grad in gradients(shape):
        matrix.grad = grad.flatten(1).clone()
        optimizer.step()
    assert torch.equal(made.flatten(1), matrix.detach())


@pytest.mark.parametrize("fused", [None, True])
def test_all_others_have_torchs_adamw(fused: bool | None):
    (values,) = gradients((6, 3, 3, 3), 1)
    own = {"adamw_lr": 0.01, "adamw_betas": (0.8, 0.9), "adamw_weight_decay": 0.1, "adamw_eps": 1e-4}
    _, made = stepped(values.clone(), values.flatten(1)[:, 0], fused=fused, **own)
    bias = nn.Parameter(values.flatten(1)[:, 0].clone())
    optimizer = torch.optim.AdamW([bias], lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-4, fused=fused)
    for grad in gradients((6, 3, 3, 3)):
        bias.grad = grad.flatten(1)[:, 0].clone()
        optimizer.step()
    assert torch.equal(made, bias.detach())


def test_the_layout_of_a_convolution_does_not_matter():
    (values,) = gradients((6, 3, 3, 3), 1)
    bias = torch.ones(6)
    plain, _ = stepped(values.clone(), bias)
    channels_last, _ = stepped(values.clone(memory_format=torch.channels_last), bias)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    memory = torch.zeros(6, 3, 3, 6)
    memory[..., ::2] = values
    apart, _ = stepped(memory[..., ::2], bias)
    torch.testing.assert_close(channels_last, plain, rtol=0, atol=1e-3)  # bfloat16, in another order of sums
    torch.testing.assert_close(apart, plain, rtol=0, atol=1e-3)
    assert not memory[..., 1::2].any()


def test_the_step_is_the_quintic_iteration_up_to_bfloat16():
    """X <- a X + (b A + c A A) X with A = X X^T, five times, from X = G / ||G||; one step moves by lr times it."""
    (grad,) = gradients((6, 27), 1)
    weight = nn.Parameter(torch.zeros(6, 27))
    weight.grad = grad.clone()
    Muon([weight], lr=1.0).step()
    x = grad.double() / grad.double().norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    torch.testing.assert_close(weight.detach().double(), -x, rtol=0, atol=0.02)
    singular = torch.linalg.svdvals(weight.detach())
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def algorithms(settings: dict[str, Any], model: nn.Module, *plugins: Any) -> dict[str, dict[str, Any]]:
    """Name of a parameter to the options of its group."""
    engine = engine_with(model, {**MUON, **settings}, *plugins, epochs=2)
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {names[id(weight)]: group for group in engine.optimizer.param_groups for weight in group["params"]}


def test_the_first_and_the_last_weight_norms_and_biases_are_adamws():
    model = preact_tiny(in_channels=1, num_classes=10, width=2)
    groups = algorithms({"adamw_lr": 0.001}, model)
    inner = {name for name, weight in model.named_parameters() if weight.dim() == 4} - {"conv1.weight"}
    assert {name for name, group in groups.items() if group["algorithm"] == "muon"} == inner
    assert {group["lr"] for name, group in groups.items() if name not in inner} == {0.001}
    everywhere = algorithms({"ends": "muon"}, model)
    assert {name for name, group in everywhere.items() if group["algorithm"] == "muon"} == {
        *inner,
        "conv1.weight",
        "linear.weight",
    }


def test_tokens_positions_and_embeddings_are_adamws():
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    groups = algorithms({"ends": "muon"}, model)
    others = {name for name, group in groups.items() if group["algorithm"] == "adamw"}
    assert {"cls_token", "pos_embed"} <= others
    assert {name for name in groups if name not in others} == {
        name for name, weight in model.named_parameters() if weight.dim() > 1 and name.endswith("weight")
    }
    named = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert algorithms({"ends": "muon"}, named)["0.weight"]["algorithm"] == "adamw"


def test_decay_depth_schedule_and_plugins_reach_the_groups_of_both():
    model = preact_tiny(in_channels=1, num_classes=10, width=2)
    settings = {"weight_decay": 0.3, "adamw_weight_decay": 0.2, "adamw_lr": 0.001, "no_decay": "norm,bias"}
    layers = {"groups": {"1": ["layer1.*"], "2": ["layer2.*"]}, "layers": [1]}
    engine = engine_with(model, {**MUON, **settings, "layer_decay": 0.5}, {"rat_lr": layers}, epochs=2)
    engine.set_lr(0.1, 1.0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = {names[id(weight)]: group for group in engine.optimizer.param_groups for weight in group["params"]}
    options = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    expected = {
        "linear.weight": (0.0001, 0.2),  # the head, AdamW's
        "linear.bias": (0.0001, 0.0),
        "layer4.0.conv1.weight": (0.002 * 0.5, 0.3),
        "layer4.0.bn1.weight": (0.0001 * 0.5, 0.0),
        "layer1.0.conv1.weight": (0.02 * 0.5**4, 0.3),  # keeps its initial rate
        "conv1.weight": (0.0001 * 0.5**5, 0.2),
    }
    for name, (rate, decay) in expected.items():
        assert options[name] == (pytest.approx(rate), decay), name


def test_the_loss_falls():
    torch.manual_seed(0)
    model = preact_tiny(in_channels=1, num_classes=3, width=2)
    engine = engine_with(model, {**MUON, "adamw_lr": 0.01})
    losses = [float(step(engine).losses.mean()) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": -1}, r"Muon: .*momentum"),
        ({"adamw_betas": [0.9, 1.5]}, r"Muon: .*beta"),
        ({"scale": "big"}, r"optimizer.scale"),
        ({"ends": "sgd"}, r"optimizer.ends"),
        ({"beta": 0.9}, r"optimizer.beta: unknown key"),
        ({"ns_steps": 2.5}, r"optimizer.ns_steps"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        configured({**MUON, **settings})


def test_a_model_without_a_hidden_matrix_is_refused():
    with pytest.raises(
        ConfigError, match=r"optimizer.name: model ConvNet has no matrix or convolution for Muon between"
    ):
        engine_with(ConvNet(), MUON)
    engine_with(ConvNet(), {**MUON, "ends": "muon"})


def test_a_group_of_ones_own_may_say_the_algorithm():
    with pytest.raises(ValueError, match="algorithm: muon is for parameters of two or more dimensions"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "algorithm": "muon"}], lr=0.1)
    made = Muon([{"params": [nn.Parameter(torch.ones(3, 3))], "algorithm": "adamw"}], lr=0.1)
    assert made.param_groups[0]["lr"] == 3e-4


def test_an_older_torch_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs torch 2.9 or later, and this is"):
        configured(MUON)
