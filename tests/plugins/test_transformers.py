"""Vision transformers for 32x32: published sizes, layer groups, a step of training, and patches that do not fit."""

from typing import Any

import pytest
import torch
from torch import nn

from buttress import Engine, ThreatModel
from buttress.errors import ModelError
from buttress.nn import layer_groups, matrices
from buttress_plugins.models.zoo import convit_b, deit_s, timm_model, vit_b

NARROW = {"depth": 4, "embed_dim": 16, "num_heads": 2}
MAKERS = {
    "vit_b": (vit_b, NARROW),
    "deit_s": (deit_s, NARROW),
    "convit_b": (convit_b, {**NARROW, "embed_dim": 8, "local_up_to_layer": 2}),  # a head's width there
}


def size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


# Published at 224 pixels, patches of 16 and 1,000 classes: 86, 22 and 86 million (arXiv:2012.12877, table 1;
# arXiv:2103.10697, table 1), to the weight in timm's table of results. From there to 32 pixels, patches of 4 and 10
# classes the patches' convolution, the positions and the head shrink.
@pytest.mark.parametrize(
    ("network", "published", "width", "documented"),
    [
        ("vit_b", 86_567_656, 768, "85.15"),
        ("deit_s", 22_050_664, 384, "21.34"),
        ("convit_b", 86_540_040, 768, "85.12"),
    ],
)
def test_sizes_are_those_published_but_for_patches_positions_and_head(
    network: str, published: int, width: int, documented: str
):
    make, _ = MAKERS[network]
    with torch.device("meta"):
        large = make(in_channels=3, num_classes=1000, image_size=224, patch_size=16)
        small = make(in_channels=3, num_classes=10)
    assert size(large) == published
    assert size(small) == published - width * (3 * (16**2 - 4**2) + (14**2 - 8**2)) - (width + 1) * 990
    assert f"{size(small) / 1e6:.2f}" == documented
    assert f"{documented} million" in (make.__doc__ or "")


@pytest.mark.parametrize("network", MAKERS)
def test_the_layer_groups_are_quarters_of_the_blocks(network: str):
    with torch.device("meta"):
        model = MAKERS[network][0](in_channels=3, num_classes=10)
    blocks = {n: {".".join(name.split(".")[:2]) for name in names} for n, names in layer_groups(model).items()}
    assert blocks == {
        1: {"blocks.0", "blocks.1", "blocks.2"},
        2: {"blocks.3", "blocks.4", "blocks.5"},
        3: {"blocks.6", "blocks.7", "blocks.8"},
        4: {"blocks.9", "blocks.10", "blocks.11"},
    }
    assert "head.weight" in layer_groups(model, head_group=4)[4]


def test_what_awp_perturbs_of_a_transformer_are_its_matrices():
    with torch.device("meta"):
        model = vit_b(in_channels=3, num_classes=10)
    names = {id(weight): name for name, weight in model.named_parameters()}
    block = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    chosen = {names[id(weight)] for weight in matrices(model)}
    assert chosen == {
        *(f"blocks.{i}.{layer}.weight" for i in range(12) for layer in block), "patch_embed.proj.weight", "head.weight",
    }  # fmt: skip


@pytest.mark.parametrize("network", MAKERS)
def test_a_step_against_an_attack_moves_the_weights(network: str):
    make, narrow = MAKERS[network]
    torch.manual_seed(0)
    model = make(in_channels=3, num_classes=4, options=narrow)
    before = [weight.detach().clone() for weight in model.parameters()]
    engine = Engine(model, torch.optim.SGD(model.parameters(), 0.1), [{"pgd": {"steps": 1}}], ThreatModel("linf", 0.1))
    losses, _ = engine.step(torch.rand(4, 3, 32, 32), torch.arange(4))
    assert losses.shape == (4,)
    assert bool(losses.isfinite().all())
    now = zip(model.named_parameters(), before, strict=True)
    assert [name for (name, weight), old in now if torch.equal(weight, old)] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 5}, "patch_size: expected a divisor of the image size, 32, got 5; the divisors are 1, 2, 4, 8"),
        ({"image_size": 30}, "expected a divisor of the image size, 30, got 4; the divisors are 1, 2, 3, 5, 6, 10, 15"),
        ({"options": {"img_size": 64}}, "option 'img_size' is set by image_size and patch_size; leave it out"),
    ],
    ids=str,
)
@pytest.mark.parametrize("network", MAKERS)
def test_patches_that_do_not_divide_the_image_are_refused(network: str, settings: dict[str, Any], message: str):
    with pytest.raises(ModelError, match=f"^{network}: .*{message}"):
        MAKERS[network][0](in_channels=3, num_classes=10, **settings)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"img_size": 8, "patch_size": 3}, "8, got 3; the divisors are 1, 2, 4, 8"),
        ({"img_size": (8, 9), "patch_size": 4}, "9, got 4; the divisors are 1, 3, 9"),
        ({"img_size": 30}, "30, got 16; the divisors are 1, 2, 3, 5, 6, 10, 15, 30"),
    ],
    ids=str,
)
def test_sizes_given_to_timm_are_checked_alike(sizes: dict[str, Any], expected: str):
    """Without the check the network does not see the last rows and columns, and nothing says so."""
    arch = "vit_tiny_patch16_224"
    with pytest.raises(ModelError, match=f"^{arch}: patch_size: expected a divisor of the image size, {expected}"):
        timm_model(arch=arch, in_channels=3, num_classes=10, options={"depth": 1, **sizes})


def test_a_network_of_timm_that_takes_inputs_of_several_sizes_is_not_refused():
    sizes = {"depth": 1, "embed_dim": 6, "num_heads": 2, "img_size": 9, "patch_size": 4, "dynamic_img_size": True}
    network = timm_model(arch="vit_tiny_patch16_224", in_channels=3, num_classes=5, options=sizes)
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
