"""VGG, DPN and DLA: RAT's layer groups, the literal forward of a public file, a step of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Engine, ThreatModel
from buttress.nn import layer_groups, load_weights
from buttress_plugins.models.dla import dla
from buttress_plugins.models.dpn import dpn26
from buttress_plugins.models.vgg import vgg16_bn

from .. import literal_networks as literal


def size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_vgg_has_the_weights_that_its_paper_counts():
    """arXiv:1409.1556: 13 convolutions of configuration D, without batch norm and the classifier: 14,714,688."""
    with torch.device("meta"):
        model = vgg16_bn(in_channels=3, num_classes=10)
    assert sum(size(layer) for layer in model.modules() if isinstance(layer, nn.Conv2d)) == 14_714_688


NARROW: dict[str, Callable[[], nn.Module]] = {
    "vgg16_bn": lambda: vgg16_bn(in_channels=3, num_classes=4, width=4),
    "dpn26": lambda: dpn26(in_channels=3, num_classes=4, groups=2),
    "dla": lambda: dla(in_channels=3, num_classes=4, width=4),
}
LITERAL: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "vgg16_bn": literal.vgg16_bn,
    "dpn26": lambda w, x: literal.dpn26(w, x, 2),
    "dla": literal.dla,
}
GROUPS = {
    "vgg16_bn": {
        1: ["features.0", "features.1", "features.3", "features.4", "features.7", "features.8"],
        2: ["features.10", "features.11", "features.14", "features.15", "features.17", "features.18"],
        3: [f"features.{index}" for index in (20, 21, 24, 25, 27, 28, 30)],
        4: [f"features.{index}" for index in (31, 34, 35, 37, 38, 40, 41)],
    },
    "dpn26": {1: ["layer1"], 2: ["layer2"], 3: ["layer3"], 4: ["layer4"]},
    "dla": {1: ["layer3"], 2: ["layer4"], 3: ["layer5"], 4: ["layer6"]},
}
OUTSIDE = {
    "vgg16_bn": {"classifier"},
    "dpn26": {"conv1", "bn1", "linear"},
    "dla": {"base", "layer1", "layer2", "linear"},
}


def top(name: str) -> str:
    """The first part of a parameter's name; two for VGG's features."""
    return ".".join(name.split(".")[: 2 if name.startswith("features") else 1])


@pytest.mark.parametrize("network", NARROW)
def test_the_layer_groups_are_those_of_rat(network: str):
    model = NARROW[network]()
    groups = layer_groups(model)
    assert {number: list(dict.fromkeys(map(top, names))) for number, names in groups.items()} == GROUPS[network]
    grouped = {name for names in groups.values() for name in names}
    assert {top(name) for name, _ in model.named_parameters() if name not in grouped} == OUTSIDE[network]


@pytest.mark.parametrize("network", NARROW)
def test_a_file_of_the_public_layout_gives_the_logits_of_the_literal_forward(tmp_path: Path, network: str):
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: tensor + torch.rand(tensor.shape, generator=generator, dtype=torch.float64) / 8
        for name, tensor in NARROW[network]().double().state_dict().items()
    }
    torch.save({"net": {f"module.{name}": tensor for name, tensor in weights.items()}, "acc": 95.0}, tmp_path / "w.pth")
    model = NARROW[network]().double().eval()
    load_weights(model, tmp_path / "w.pth")
    x = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    expected = LITERAL[network](weights, x)
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("network", NARROW)
def test_a_step_against_an_attack_moves_every_weight(network: str):
    torch.manual_seed(0)
    model = NARROW[network]()
    before = [weight.detach().clone() for weight in model.parameters()]
    engine = Engine(model, torch.optim.SGD(model.parameters(), 0.1), [{"pgd": {"steps": 1}}], ThreatModel("linf", 0.1))
    losses, _ = engine.step(torch.rand(4, 3, 32, 32), torch.arange(4))
    assert bool(losses.isfinite().all())
    now = zip(model.named_parameters(), before, strict=True)
    still = [name for (name, weight), old in now if torch.equal(weight, old)]
    assert all(network == "vgg16_bn" and name.endswith("bias") for name in still)  # batch norm takes such a bias back
