"""Wide and deep networks and those of torchvision and timm: parameters counted by formula, shapes, gradients."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from buttress import Engine, ThreatModel
from buttress.components.construct import build
from buttress.errors import ButtressError, ModelError
from buttress.nn import normalized
from buttress_plugins.models.mlp import mlp
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_resnet34, preact_tiny
from buttress_plugins.models.wide_resnet import PaddedShortcut, WideBlock, wrn, wrn_28_10, wrn_32_10, wrn_34_10
from buttress_plugins.models.zoo import timm_model, torchvision_model


def size(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def wide(blocks: int, widen: int, classes: int, learned: bool) -> int:
    """Weights of a wide ResNet: stem; in a block two batch norms and convolutions; shortcuts, norm, classifier."""
    total, width_in = 9 * 3 * 16, 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        for block in range(blocks):
            incoming = width_in if block == 0 else width
            total += 2 * incoming + 9 * incoming * width + 2 * width + 9 * width * width
            total += incoming * width if block == 0 and learned else 0
        width_in = width
    return total + 2 * width_in + width_in * classes + classes


@pytest.mark.parametrize(
    ("make", "blocks", "learned", "published"),
    [(wrn_28_10, 4, True, 36_479_194), (wrn_34_10, 5, True, 46_160_474), (wrn_32_10, 5, False, 45_901_914)],
)
def test_wide_resnets_have_the_parameters_of_their_papers(make: Any, blocks: int, learned: bool, published: int):
    assert wide(blocks, 10, 10, learned) == published
    with torch.device("meta"):
        model = make(in_channels=3, num_classes=10)
    assert size(model) == published
    assert size(make(in_channels=3, num_classes=100, widen=2)) == wide(blocks, 2, 100, learned)


def test_the_presets_are_settings_of_wrn():
    for preset, depth in ((wrn_28_10, 28), (wrn_34_10, 34)):
        torch.manual_seed(0)
        model = preset(in_channels=3, num_classes=4, widen=1)
        torch.manual_seed(0)
        same = wrn(in_channels=3, num_classes=4, depth=depth, widen=1)
        assert str(model) == str(same)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize("depth", [27, 29, 4, 1])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth: int):
    near = {27: "22 and 28", 29: "28 and 34", 4: "10 and 16", 1: "10 and 16"}[depth]
    with pytest.raises(ModelError, match=rf"wrn: depth: expected 6 n \+ 4 .*, got {depth}; the nearest are {near}"):
        wrn(in_channels=3, num_classes=10, depth=depth)


@pytest.mark.parametrize("setting", [{"activation": "gelu"}, {"padding": "start"}], ids=str)
def test_an_unknown_activation_or_padding_is_refused(setting: dict[str, str]):
    with pytest.raises(ButtressError, match=next(iter(setting))):
        build("model", "wrn", setting, given={"in_channels": 3, "num_classes": 2})


@pytest.mark.parametrize(("activation", "formula"), [("relu", torch.relu), ("swish", lambda z: z * z.sigmoid())])
@pytest.mark.parametrize(("padding", "pads"), [("both", (1, 1, 1, 1)), ("end", (0, 1, 0, 1))])
def test_a_wide_block_is_its_formula(activation: Any, formula: Any, padding: Any, pads: tuple[int, ...]):
    torch.manual_seed(0)
    block = WideBlock(3, 5, 2, torch.nn.Conv2d(3, 5, 1, 2, bias=False), activation, padding).double().eval()
    x, scale = torch.randn(2, 3, 6, 6, dtype=torch.float64), (1 + 1e-5) ** -0.5
    first = formula(x * scale)
    inner = formula(F.conv2d(F.pad(first, pads), block.conv1.weight, stride=2) * scale)
    expected = F.conv2d(inner, block.conv2.weight, padding=1) + F.conv2d(first, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected)


def test_silu_is_swish_in_the_whole_network():
    logits = []
    for activation in ("silu", "swish", "relu"):
        torch.manual_seed(0)
        model = wrn(in_channels=3, num_classes=4, depth=10, widen=1, activation=activation)
        logits.append(model.eval()(torch.ones(1, 3, 8, 8)))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_wide_resnets_begin_as_in_the_code_of_trades():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = wrn_28_10(in_channels=3, num_classes=10)
    assert not model.fc.bias.detach().any()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 1e4:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("make", "narrow"),
    [
        (wrn, {"widen": 1, "activation": "silu", "padding": "end"}),
        (wrn_28_10, {"widen": 1}),
        (wrn_32_10, {"widen": 1}),
        (wrn_34_10, {"widen": 1}),
        (preact_resnet34, {"width": 4}),
        (preact_resnet18, {"width": 4}),
        (preact_tiny, {"width": 4}),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_images_become_logits_with_a_gradient_everywhere(make: Any, narrow: dict[str, Any]):
    model = make(in_channels=3, num_classes=7, **narrow)
    logits = model(torch.rand(4, 3, 32, 32))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(weight.grad is not None and bool((weight.grad != 0).any()) for weight in model.parameters())
    before = [weight.detach().clone() for weight in model.parameters()]
    engine = Engine(model, torch.optim.SGD(model.parameters(), 0.1), [{"pgd": {"steps": 1}}], ThreatModel("linf", 0.1))
    losses, _ = engine.step(torch.rand(4, 3, 32, 32), torch.arange(4))
    assert bool(losses.isfinite().all())
    now = zip(model.named_parameters(), before, strict=True)
    assert [name for (name, weight), old in now if torch.equal(weight, old)] == []


def test_a_padded_shortcut_averages_and_adds_zero_channels():
    x = torch.rand(1, 2, 4, 4)
    actual = PaddedShortcut(2, 5, 2)(x)
    assert actual.shape == (1, 5, 2, 2)
    assert torch.allclose(actual[:, 1:3], x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))
    assert not bool(actual[:, [0, 3, 4]].any())


def test_an_mlp_has_the_layers_asked_for():
    model = mlp(in_features=3, num_classes=2, hidden=[5, 4], norm=True)
    assert size(model) == (3 * 5 + 5 + 10) + (5 * 4 + 4 + 8) + (4 * 2 + 2)
    assert model(torch.rand(6, 3)).shape == (6, 2)
    assert size(mlp(in_features=3, num_classes=2)) == 3 * 64 + 64 + 64 * 2 + 2


def test_any_architecture_of_torchvision_by_name():
    model = torchvision_model(arch="resnet18", num_classes=7)
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7)


def test_any_architecture_of_timm_by_name():
    settings = {"img_size": 32, "patch_size": 8}
    model = timm_model(arch="vit_tiny_patch16_224", num_classes=7, in_channels=3, options=settings)
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7)


ZOO = {
    "torchvision": (torchvision_model, {"arch": "mobilenet_v3_small"}),
    "timm": (timm_model, {"arch": "mobilenetv3_small_050", "in_channels": 3}),
}


@pytest.mark.parametrize("library", ZOO)
def test_names_are_those_of_the_library_and_normalisation_adds_none(library: str):
    from timm import create_model
    from torchvision.models import get_model

    make, settings = ZOO[library]
    theirs = {"torchvision": get_model, "timm": create_model}[library](settings["arch"], num_classes=7)
    ours = normalized(make(num_classes=7, **settings), [0.25, 0.5, 0.75], [0.5, 1.0, 2.0], (3, 32, 32))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict(theirs.state_dict())  # strict, and back again
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 32, 32)
    by_hand = (x - torch.tensor([0.25, 0.5, 0.75]).view(3, 1, 1)) / torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(by_hand))


def test_a_copy_normalises_with_its_own_constants():
    network = torchvision_model(arch="resnet18", num_classes=7).eval()
    model = normalized(network, [0.5] * 3, [0.5] * 3, (3, 32, 32))
    x = torch.rand(2, 3, 32, 32)
    before = model(x)
    copy.deepcopy(model).normalize.mean.zero_()
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    assert model.double()(x.double()).dtype == torch.float64


def test_a_network_with_an_attribute_normalize_is_refused():
    network = torch.nn.Linear(3, 3)
    network.normalize = True
    with pytest.raises(ValueError, match="Linear has an attribute normalize of its own"):
        normalized(network, [0.5], [0.5], (1, 3))


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (torchvision_model, {"arch": "resnet81"}, "torchvision: unknown arch 'resnet81'; did you mean 'resnet18'?"),
        (torchvision_model, {"arch": "resnet18", "options": {"depth": 3}}, "resnet18 refused its options: .*depth"),
        (timm_model, {"arch": "vit_tiny", "in_channels": 3}, "timm: unknown arch 'vit_tiny'; did you mean"),
    ],
)
def test_unknown_architectures_and_options_are_refused(make: Any, settings: dict[str, Any], message: str):
    with pytest.raises(ModelError, match=message.replace("?", r"\?")):
        make(num_classes=3, **settings)
