"""Layer groups by name, against what the paper lists."""

from functools import partial
from typing import Any

import pytest
from torch import nn

from buttress.errors import PluginError
from buttress.nn.layers import layer_groups, layer_names, split_groups
from buttress.types import ParamGroup
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_resnet34, preact_tiny
from buttress_plugins.models.wide_resnet import wrn, wrn_28_10, wrn_32_10, wrn_34_10


def modules_of(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


@pytest.mark.parametrize("make", [preact_resnet18, preact_resnet34, preact_tiny])
def test_the_groups_of_a_preact_resnet_are_its_stages(make: Any):
    model = make(in_channels=3, num_classes=10, width=4)
    groups = layer_groups(model)
    assert set(groups) == {1, 2, 3, 4}
    for number, names in groups.items():
        assert names == [name for name, _ in model.named_parameters() if name.startswith(f"layer{number}.")]
    outside = {name for name, _ in model.named_parameters()} - {name for names in groups.values() for name in names}
    assert outside == {"conv1.weight", "bn.weight", "bn.bias", "linear.weight", "linear.bias"}


@pytest.mark.parametrize("make", [partial(wrn, depth=16, padding="end"), wrn_28_10, wrn_32_10, wrn_34_10])
def test_the_groups_of_a_wide_resnet_are_its_three_blocks_and_its_head(make: Any):
    """Spec: block1, block2 and block3 are groups 1 to 3, bn1 and fc are group 4, and the stem belongs to none."""
    model = make(in_channels=3, num_classes=10, widen=1)
    names, groups = [name for name, _ in model.named_parameters()], layer_groups(model)
    assert groups == {
        1: [name for name in names if name.startswith("block1.")],
        2: [name for name in names if name.startswith("block2.")],
        3: [name for name in names if name.startswith("block3.")],
        4: ["bn1.weight", "bn1.bias", "fc.weight", "fc.bias"],
    }
    assert set(names) - {name for group in groups.values() for name in group} == {"conv1.weight"}


def test_the_groups_of_vgg16_bn_are_the_indices_of_the_paper():
    from torchvision.models import vgg16_bn

    groups = layer_groups(vgg16_bn(num_classes=10))
    indices = {number: [int(name.split(".")[1]) for name in modules_of(names)] for number, names in groups.items()}
    assert indices == {
        1: [0, 1, 3, 4, 7, 8],
        2: [10, 11, 14, 15, 17, 18],
        3: [20, 21, 24, 25, 27, 28, 30],
        4: [31, 34, 35, 37, 38, 40, 41],
    }
    model = vgg16_bn(num_classes=10)
    assert isinstance(model.features[30], nn.Conv2d)
    assert isinstance(model.features[31], nn.BatchNorm2d)


def test_the_fourth_group_of_a_wide_resnet_is_its_head():
    model = nn.Module()
    for name in ("conv1", "block1", "block2", "block3", "bn1", "fc"):
        setattr(model, name, nn.Sequential(nn.Linear(2, 2)))
    assert modules_of(layer_groups(model)[4]) == ["bn1.0", "fc.0"]
    assert modules_of(layer_groups(model)[3]) == ["block3.0"]


def test_the_groups_of_dla_are_its_tree_stages():
    model = nn.Module()
    for name in ("base", *(f"layer{number}" for number in range(1, 7)), "linear"):
        setattr(model, name, nn.Linear(2, 2))
    assert [modules_of(names) for names in layer_groups(model).values()] == [
        ["layer3"], ["layer4"], ["layer5"], ["layer6"],
    ]  # fmt: skip


def test_a_network_inside_a_wrapper_is_found():
    model = nn.Sequential(nn.Identity(), preact_tiny(in_channels=1, num_classes=3, width=2))
    assert all(name.startswith("1.layer3.") for name in layer_groups(model)[3])


def test_all_groups_together_are_the_whole_network():
    model = preact_tiny(in_channels=1, num_classes=3, width=2)
    assert layer_names(model, [1, 2, 3, 4], None, None) == [name for name, _ in model.named_parameters()]
    assert "conv1.weight" not in layer_names(model, [1, 2, 3], None, None)


def test_the_head_joins_the_group_that_is_asked_for():
    model = preact_tiny(in_channels=1, num_classes=3, width=2)
    assert modules_of(layer_groups(model, head_group=4)[4])[-2:] == ["bn", "linear"]
    assert "linear.weight" not in layer_names(model, [1, 2, 3], None, 4)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def test_patterns_name_the_groups_of_any_model():
    assert layer_groups(mlp(), {1: ["0.*"], 2: ["2.weight", "4.*"]}) == {
        1: ["0.weight", "0.bias"],
        2: ["2.weight", "4.weight", "4.bias"],
    }


def tied() -> nn.Sequential:
    model = mlp()
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (mlp, ([1], None, None), r"model Sequential has no layer groups that are known; name them by patterns"),
        (mlp, ([1], {1: ["9.*"], 2: ["0.*"]}, None), r"group 1 \(9\.\*\) names no parameter"),
        (mlp, ([1], {1: ["0.*"], 2: ["*.weight"]}, None), r"parameter '0\.weight' is in groups 1 and 2"),
        (tied, ([1], {1: ["0.*"], 2: ["2.*"]}, None), r"'2\.weight', tied to '0\.weight', is in groups 1 and 2"),
        (mlp, ([3], {1: ["0.*"], 2: ["2.*"]}, None), r"layers: expected numbers of \[1, 2\], got \[3\]"),
        (mlp, ([], {1: ["0.*"], 2: ["2.*"]}, None), r"layers: expected numbers of \[1, 2\], got \[\]"),
        (mlp, ([1], {1: ["0.*"], 2: ["2.*"]}, 7), r"head_group: expected one of \[1, 2\], got 7"),
    ],
    ids=["unknown model", "empty", "overlapping", "tied", "unknown layer", "no layer", "unknown head"],
)  # fmt: skip
def test_wrong_groups_are_refused(model, arguments, message: str):
    with pytest.raises(PluginError, match=message):
        layer_names(model(), *arguments)


def test_a_tied_parameter_within_one_group_counts_once():
    assert layer_groups(tied(), {1: ["0.*", "2.*"], 2: ["4.*"]})[1] == ["0.weight", "0.bias", "2.bias"]


def test_splitting_keeps_every_name_and_the_other_options():
    groups = [ParamGroup(("a", "b"), {"weight_decay": 1.0}), ParamGroup(("c",), frozen=True)]
    parts = split_groups(groups, ["b", "c"], lr_scale=abs)
    assert [(part.names, part.frozen, part.lr_scale, dict(part.options)) for part in parts] == [
        (("a",), False, None, {"weight_decay": 1.0}),
        (("b",), False, abs, {"weight_decay": 1.0}),
        (("c",), True, abs, {}),
    ]
