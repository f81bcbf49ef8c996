"""The depth of every parameter: against timm's own function, and layer by layer for networks that are not timm's."""

from itertools import groupby
from typing import Any

import pytest
import torchvision
from torch import nn

from buttress.nn.depth import depths
from buttress_plugins.models.preact_resnet import preact_resnet18
from buttress_plugins.models.vgg import vgg16_bn
from buttress_plugins.models.wide_resnet import wrn_28_10

from ..models import ConvNet, FourStages


def layers(model: nn.Module) -> list[list[str]]:
    """Names of the modules of parameters, layer of depth by layer of depth."""
    by_depth = sorted(depths(model).items(), key=lambda item: item[1])
    groups = [[name for name, _ in some] for _, some in groupby(by_depth, key=lambda item: item[1])]
    assert [depth for depth, _ in groupby(by_depth, key=lambda item: item[1])] == list(range(len(groups)))
    return groups


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32}, 14),
        ("deit_small_patch16_224", {"img_size": 32}, 14),
        ("convnext_atto", {}, 14),
        ("swin_tiny_patch4_window7_224", {}, None),
        ("resnet18", {}, None),
    ],
)
def test_depths_of_a_model_of_timm_are_those_of_its_own_optimizer_factory(
    name: str, settings: dict[str, Any], count: int | None
):
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    model = timm.create_model(name, num_classes=3, **settings)
    names = {id(weight): each for each, weight in model.named_parameters()}
    scales = {
        names[id(weight)]: group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.5)
        for weight in group["params"]
    }
    depth_of = depths(model)
    deepest = max(depth_of.values())
    assert {each: 0.5 ** (deepest - depth) for each, depth in depth_of.items()} == scales
    assert count in (None, deepest + 1)


def test_a_pre_activation_network_is_stem_blocks_and_classifier():
    model = preact_resnet18(in_channels=3, num_classes=10, width=4)
    blocks = [f"layer{stage}.{block}." for stage in (1, 2, 3, 4) for block in (0, 1)]
    found = layers(model)
    assert found[0] == ["conv1.weight"]
    assert found[-1] == ["linear.weight", "linear.bias"]
    assert found[-2][-2:] == ["bn.weight", "bn.bias"]  # the norm after the last block
    for prefix, names in zip(blocks, found[1:-1], strict=True):
        assert {name for name in names if not name.startswith("bn.")} == {
            name for name, _ in model.named_parameters() if name.startswith(prefix)
        }


def test_a_wide_network_is_stem_blocks_and_classifier():
    assert len(layers(wrn_28_10(in_channels=3, num_classes=10, widen=1))) == 1 + 3 * 4 + 1


def test_a_plain_network_has_a_norm_with_the_layer_before_it():
    assert layers(ConvNet()) == [["conv.weight", "bn.weight", "bn.bias"], ["linear.weight", "linear.bias"]]
    assert len(layers(FourStages())) == 5
    assert len(layers(vgg16_bn(in_channels=3, num_classes=10))) == 14
    plain = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    assert [len(names) for names in layers(plain)] == [4, 2, 2]
    assert layers(nn.ModuleDict({"net": plain})) == [[f"net.{name}" for name in names] for names in layers(plain)]


@pytest.mark.parametrize(("name", "count"), [("vit_b_16", 14), ("convnext_tiny", 23), ("resnet18", 10)])
def test_networks_of_torchvision(name: str, count: int):
    """ViT: embedding with token and positions, 12 blocks, head. ConvNeXt: stem, 18 blocks, 3 downsamplings, head."""
    model = torchvision.models.get_model(name, num_classes=3)
    found = layers(model)
    assert len(found) == count
    if name == "vit_b_16":
        assert {"class_token", "encoder.pos_embedding", "conv_proj.weight"} <= set(found[0])
        assert found[-1] == ["heads.head.weight", "heads.head.bias"]
