"""Numbers of parameters of every built-in architecture, by the arithmetic of its paper, layer by layer.

No network is built for a formula. Published numbers come from the papers' tables where one is named, and else from
counts that others made of public weights; where nothing was found, the formula stands alone.
"""

import re
from importlib.metadata import entry_points
from itertools import pairwise
from typing import Any

import pytest
import torch

K = 10


def conv(width_in: int, width: int, side: int = 3) -> int:
    """Weights of a convolution without a bias."""
    return side * side * width_in * width


def norm(width: int) -> int:
    """A factor and an offset for each channel."""
    return 2 * width


def linear(width_in: int, width: int) -> int:
    return width_in * width + width


def vgg16() -> int:
    """Thirteen convolutions with a bias and a norm, and one linear layer."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    return sum(conv(a, b) + b + norm(b) for a, b in pairwise(widths)) + linear(512, K)


def dpn() -> int:
    """Stages of two blocks: 1x1 to the inner width, 3x3 in 32 groups, 1x1 to the sum of residual and dense width."""
    total, width = conv(3, 64) + norm(64), 64
    for inner, residual, dense in ((96, 256, 16), (192, 512, 32), (384, 1024, 24), (768, 2048, 128)):
        out = residual + dense
        total += conv(width, out, 1) + norm(out)  # the first block's shortcut
        for width_in in (width, residual + 2 * dense):
            total += conv(width_in, inner, 1) + norm(inner)
            total += conv(inner, inner // 32) + norm(inner)
            total += conv(inner, out, 1) + norm(out)
        width = residual + 3 * dense
    return total + linear(width, K)


def dla_block(width_in: int, width: int) -> int:
    shortcut = conv(width_in, width, 1) + norm(width) if width_in != width else 0
    return conv(width_in, width) + norm(width) + conv(width, width) + norm(width) + shortcut


def dla_tree(width_in: int, width: int, depth: int) -> int:
    """Two blocks and a root of both; at depth 2 a smaller tree before them, and a block beside, in the root too."""
    if depth == 1:
        return dla_block(width_in, width) + dla_block(width, width) + conv(2 * width, width, 1) + norm(width)
    blocks = dla_block(width_in, width) + 2 * dla_block(width, width)
    return dla_tree(width_in, width, 1) + blocks + conv(4 * width, width, 1) + norm(width)


def dla() -> int:
    stem = conv(3, 16) + norm(16) + conv(16, 16) + norm(16) + conv(16, 32) + norm(32)
    trees = dla_tree(32, 64, 1) + dla_tree(64, 128, 2) + dla_tree(128, 256, 2) + dla_tree(256, 512, 1)
    return stem + trees + linear(512, K)


def preact(blocks: tuple[int, ...], channels: int = 3, width: int = 64, factors: tuple[int, ...] = (1, 2, 4, 8)) -> int:
    total, width_in = conv(channels, width), width
    for count, factor in zip(blocks, factors, strict=True):
        for _ in range(count):
            out = factor * width
            total += norm(width_in) + conv(width_in, out) + norm(out) + conv(out, out)
            total += conv(width_in, out, 1) if width_in != out else 0
            width_in = out
    return total + norm(width_in) + linear(width_in, K)


def wide(depth: int, widen: int, learned: bool = True) -> int:
    """(depth - 4) / 6 blocks in each of three groups; a group's first block has a 1x1 shortcut, if it is learned."""
    total, width_in = conv(3, 16), 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        total += conv(width_in, width, 1) if learned else 0
        for incoming in (width_in, *((depth - 4) // 6 - 1) * [width]):
            total += norm(incoming) + conv(incoming, width) + norm(width) + conv(width, width)
        width_in = width
    return total + norm(width_in) + linear(width_in, K)


def mlp_of_block(width: int) -> int:
    return linear(width, 4 * width) + linear(4 * width, width)


def vit(width: int) -> int:
    """64 patches of 4x4 and a class token; twelve blocks of attention, with biases, and an MLP."""
    block = norm(width) + linear(width, 3 * width) + linear(width, width) + norm(width) + mlp_of_block(width)
    return 4 * 4 * 3 * width + width + width + 65 * width + 12 * block + norm(width) + linear(width, K)


def convit(width: int = 768, heads: int = 16) -> int:
    """Ten blocks of gated positional attention: queries and keys, values, three numbers of position, and a gate a head.

    Two blocks of attention follow, whose query, key and value have no bias; the class token has no position.
    """
    gated = 2 * width * width + width * width + linear(width, width) + linear(3, heads) + heads
    plain = 3 * width * width + linear(width, width)
    blocks = 10 * gated + 2 * plain + 12 * (2 * norm(width) + mlp_of_block(width))
    return 4 * 4 * 3 * width + width + width + 64 * width + blocks + norm(width) + linear(width, K)


# Name and settings of a model, the formula, and the published number in millions, as it is printed.
SIZES: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "vgg16_bn": ("vgg16_bn", {}, vgg16(), "14.73"),  # 14,728,266: counts of others
    "dpn26": ("dpn26", {}, dpn(), ""),
    "dla": ("dla", {}, dla(), ""),
    "vit_b": ("vit_b", {}, vit(768), ""),
    "deit_s": ("deit_s", {}, vit(384), ""),
    "convit_b": ("convit_b", {}, convit(), ""),
    # Its first stage halves the image at one width, by a 1x1 shortcut of its own.
    "preact_tiny": ("preact_tiny", {"in_channels": 1}, preact((1, 1, 1, 1), 1, 16, (1, 2, 4, 4)) + conv(16, 16, 1), ""),
    "preact_resnet18": ("preact_resnet18", {}, preact((2, 2, 2, 2)), "11.17"),  # 11,172,170: counts of others
    "preact_resnet34": ("preact_resnet34", {}, preact((3, 4, 6, 3)), ""),
    "wrn_28_10": ("wrn_28_10", {}, wide(28, 10), "36.5"),  # arXiv:1605.07146, table 4
    "wrn_34_10": ("wrn_34_10", {}, wide(34, 10), "46.16"),  # 46,160,474: counts of others
    "wrn_32_10": ("wrn_32_10", {}, wide(34, 10, learned=False), ""),  # as many blocks; it counts other layers
    "wrn 28-10": ("wrn", {"depth": 28, "widen": 10}, wide(28, 10), "36.5"),
    "wrn 34-10": ("wrn", {"depth": 34, "widen": 10}, wide(34, 10), "46.16"),
    "wrn 34-20": ("wrn", {"depth": 34, "widen": 20}, wide(34, 20), ""),
    "wrn 70-16": ("wrn", {"depth": 70, "widen": 16}, wide(70, 16), "267"),  # arXiv:2010.03593
    "wrn 82-8": ("wrn", {"depth": 82, "widen": 8}, wide(82, 8), ""),
    "wrn 94-16": ("wrn", {"depth": 94, "widen": 16}, wide(94, 16), "366"),  # arXiv:2404.09349; 365,915,610: others
}
EXACT = {
    "vgg16_bn": 14_728_266,
    "preact_resnet18": 11_172_170,
    "wrn 34-10": 46_160_474,
    "wrn 70-16": 266_796_506,
    "wrn 94-16": 365_915_610,
}


@pytest.mark.parametrize("name", SIZES)
def test_a_network_has_as_many_parameters_as_its_layers_by_hand(name: str):
    model, settings, expected, published = SIZES[name]
    (point,) = entry_points(group="buttress.models", name=model)
    with torch.device("meta"):
        network = point.load()(**{"in_channels": 3, "num_classes": K, **settings})
    assert sum(weight.numel() for weight in network.parameters()) == expected
    assert expected == EXACT.get(name, expected)
    documented = re.findall(r"([\d.]+) million", point.load().__doc__)
    for number in (*documented, *filter(None, [published])):
        assert f"{expected / 1e6:.{len(number.partition('.')[2])}f}" == number


def test_every_architecture_of_buttress_is_counted():
    ours = {point.name for point in entry_points(group="buttress.models") if "buttress_plugins" in point.value}
    assert ours - {model for model, *_ in SIZES.values()} == {"mlp", "timm", "torchvision"}  # of any size
