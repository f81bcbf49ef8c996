"""Files of public code: made in their layout, loaded, and compared with the literal forward of that code in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.errors import ModelError
from buttress.nn import load_weights, normalized
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_resnet34, preact_tiny
from buttress_plugins.models.wide_resnet import WideResNet, wrn
from buttress_plugins.models.zoo import convit_b, vit_b

from .. import literal_networks as literal

DEPTH, WIDEN, CLASSES = 16, 2, 5
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]


class Maker:
    """Random weights by name, in float64, with variances above zero."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)

    def norm(self, name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.weights[f"{name}.{part}"] = self.random(width) + (0.5 if part in ("weight", "running_var") else 0)
        self.weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def conv(self, name: str, width_in: int, width: int, side: int) -> None:
        self.weights[f"{name}.weight"] = (self.random(width, width_in, side, side) - 0.5) / (width_in**0.5 * side)

    def linear(self, name: str, width_in: int, width: int) -> None:
        self.weights[f"{name}.weight"], self.weights[f"{name}.bias"] = self.random(width, width_in), self.random(width)

    def random(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, dtype=torch.float64)


def wide(names: dict[str, str], widen: int = WIDEN, sub_block: bool = False) -> dict[str, Tensor]:
    """The tensors of a wide ResNet by the names of a layout; groups and blocks are counted from 0."""
    made, width_in = Maker(), 16
    made.conv(names["stem"], 3, 16, 3)
    groups = [(names["block"].format(g, g + 1, "{}"), 16 * widen * 2**g) for g in range(3)]
    if sub_block:
        groups.insert(0, ("sub_block1.layer.{}", 16 * widen))
    for prefix, width in groups:
        for number in range((DEPTH - 4) // 6):
            incoming, block = width_in if number == 0 else width, prefix.format(number)
            made.norm(f"{block}.{names['bn1']}", incoming)
            made.conv(f"{block}.{names['conv1']}", incoming, width, 3)
            made.norm(f"{block}.{names['bn2']}", width)
            made.conv(f"{block}.{names['conv2']}", width, width, 3)
            if incoming != width:
                made.conv(f"{block}.{names['shortcut']}", incoming, width, 1)
        width_in = width_in if prefix.startswith("sub") else width
    made.norm(names["bn"], width_in)
    made.linear(names["fc"], width_in, CLASSES)
    return made.weights


TRADES = {
    "stem": "conv1", "block": "block{1}.layer.{2}", "bn1": "bn1", "conv1": "conv1", "bn2": "bn2", "conv2": "conv2",
    "shortcut": "convShortcut", "bn": "bn1", "fc": "fc",
}  # fmt: skip
DEEPMIND = {
    "stem": "init_conv", "block": "layer.{0}.block.{2}", "bn1": "batchnorm_0", "conv1": "conv_0", "bn2": "batchnorm_1",
    "conv2": "conv_1", "shortcut": "shortcut", "bn": "batchnorm", "fc": "logits",
}  # fmt: skip


def save(path: Path, content: Any) -> Path:
    torch.save(content, path / "w.pt")
    return path / "w.pt"


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def model_of(**settings: Any) -> WideResNet:
    given = {"in_channels": 3, "num_classes": CLASSES, "depth": DEPTH, "widen": WIDEN, **settings}
    return wrn(**given).double().eval()


def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_logits(model: nn.Module, expected: Tensor) -> None:
    torch.testing.assert_close(model(images()), expected, rtol=1e-9, atol=1e-9)


def preact(blocks: tuple[int, ...], width: int) -> dict[str, Tensor]:
    """The tensors of a pre-activation network by the names of the code of Rice et al."""
    made, width_in = Maker(), width
    made.conv("conv1", 3, width, 3)
    for stage, count in enumerate(blocks):
        out = width * 2**stage
        for number in range(count):
            block = f"layer{stage + 1}.{number}"
            made.norm(f"{block}.bn1", width_in)
            made.conv(f"{block}.conv1", width_in, out, 3)
            made.norm(f"{block}.bn2", out)
            made.conv(f"{block}.conv2", out, out, 3)
            if width_in != out:
                made.conv(f"{block}.shortcut.0", width_in, out, 1)
            width_in = out
    made.norm("bn", width_in)
    made.linear("linear", width_in, CLASSES)
    return made.weights


@pytest.mark.parametrize("prefix", ["", "module.", "1."])
@pytest.mark.parametrize(("make", "blocks"), [(preact_resnet18, (2, 2, 2, 2)), (preact_resnet34, (3, 4, 6, 3))])
def test_files_of_rice_and_awp_give_the_logits_of_their_code(tmp_path: Path, make: Any, blocks: Any, prefix: str):
    weights = preact(blocks, width=4)
    model = make(in_channels=3, num_classes=CLASSES, width=4).double().eval()
    load_weights(model, save(tmp_path, {"state_dict": prefixed(weights, prefix)}))
    assert_logits(model, literal.preact_of_rice(weights, images(), blocks, (1, 2, 2, 2)))


@pytest.mark.parametrize("sub_block", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: prefixed(weights, "module."),  # TRADES: saved from DataParallel
        lambda weights: {"state_dict": prefixed(weights, "module."), "epoch": 76},  # AWP
    ],
    ids=["bare", "module", "state_dict"],
)
def test_files_of_trades_and_awp_give_the_logits_of_their_code(tmp_path: Path, wrap: Any, sub_block: bool):
    weights = wide(TRADES, sub_block=sub_block)
    model = model_of()
    load_weights(model, save(tmp_path, wrap(weights)))
    assert_logits(model, literal.wrn_of_trades(weights, images(), DEPTH))


@pytest.mark.parametrize(
    ("activation", "function"), [("silu", F.silu), ("swish", F.silu), ("relu", F.relu)], ids=["silu", "swish", "relu"]
)
@pytest.mark.parametrize("buffers", ["", "mean", "mu"])
def test_files_of_deepminds_layout_give_the_logits_of_their_code(
    tmp_path: Path, activation: str, function: Callable[[Tensor], Tensor], buffers: str
):
    weights = wide(DEEPMIND)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    layer = {"": {}, "mean": {"mean": mean, "std": std}, "mu": {"0.mu": mean[None], "0.sigma": std[None]}}[buffers]
    content = {**layer, **prefixed(weights, "1." if buffers == "mu" else "")}
    model = normalized(model_of(activation=activation, padding="end"), MEAN, STD, (3, 32, 32))
    load_weights(model, save(tmp_path, {"model_state_dict": prefixed(content, "module.")}))
    assert_logits(model, literal.wrn_of_deepmind(weights, images(), DEPTH, function, mean, std))


def test_a_network_with_the_names_of_its_own_file_loads_as_before(tmp_path: Path):
    model, other = model_of(), model_of()
    load_weights(other, save(tmp_path, model.state_dict()))
    assert torch.equal(other(images()), model(images()))


def test_a_layer_that_normalizes_may_stand_beside_weights_of_any_network(tmp_path: Path):
    """As RobustBench adds one, named ``normalize``, to networks of several papers."""
    model, other = (normalized(preact_tiny(in_channels=3, num_classes=5), MEAN, STD, (3, 32, 32)) for _ in range(2))
    layer = {"normalize.mean": torch.tensor(MEAN), "normalize.std": torch.tensor(STD)}
    load_weights(other, save(tmp_path, {**layer, **model.state_dict()}))
    assert torch.equal(other.eval()(images().float()), model.eval()(images().float()))


def deepmind_with_mean(mean: list[float]) -> dict[str, Tensor]:
    return {"mean": torch.tensor(mean).view(3, 1, 1), "std": torch.ones(3, 1, 1), **wide(DEEPMIND)}


@pytest.mark.parametrize(
    ("make", "content", "message"),
    [
        (
            model_of,
            lambda: wide(DEEPMIND),
            r"is of the wide ResNet of DeepMind, .* \{name: wrn, padding: end, \.\.\.\}",
        ),
        (
            lambda: model_of(padding="end"),
            lambda: wide(TRADES),
            r"is of the wide ResNet of TRADES and AWP, .* \{name: wrn, padding: both, \.\.\.\}",
        ),
        (
            lambda: model_of(padding="end"),
            lambda: deepmind_with_mean([0.5, 0.25, 0.4914]),
            r"by mean \[0\.5, 0\.25, 0\.4914\] and std \[1\.0, 1\.0, 1\.0\], the model not at all; set "
            r"model\.normalize: \{mean: \[0\.5, 0\.25, 0\.4914\], std: \[1\.0, 1\.0, 1\.0\]\}",
        ),
        (
            lambda: normalized(model_of(padding="end"), [0.5, 0.25, 0.49], [1.0] * 3, (3, 32, 32)),
            lambda: deepmind_with_mean([0.5, 0.25, 0.4914]),
            r"the model by mean \[0\.5, 0\.25, 0\.49\] and std",
        ),
        (
            model_of,
            lambda: wide(TRADES, widen=3),
            r"of another model: other shape block1\.0\.conv1\.weight is \[32, 16, 3, 3\] in the model and \[48, 16, ",
        ),
        (lambda: model_of(padding="end"), lambda: wide(DEEPMIND, widen=3), r"is \[32\] in the model and \[48\] in the"),
        (lambda: model_of(depth=22), lambda: wide(TRADES), r"of another model: missing block1\.2\.bn1\.bias"),
        (
            lambda: model_of(num_classes=7),
            lambda: wide(TRADES),
            r"but for the head: fc\.weight is \[7, 128\] in the model and \[5, 128\] in the file, .*except: \[fc\]",
        ),
        (
            lambda: preact_tiny(in_channels=3, num_classes=5),
            lambda: wide(DEEPMIND),
            r"of another model: missing .* unexpected batchnorm\.",
        ),
    ],
    ids=["padding", "no padding", "no normalization", "normalization", "width", "width 2", "depth", "head", "other"],
)
def test_what_does_not_match_is_named_in_one_error(tmp_path: Path, make: Any, content: Any, message: str):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        load_weights(model, save(tmp_path, content()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# Position embeddings


NARROW = {"depth": 4, "embed_dim": 16, "num_heads": 2}


@pytest.mark.parametrize(
    ("make", "options", "tokens"),
    [(vit_b, NARROW, 1), (convit_b, {**NARROW, "embed_dim": 8}, 0)],
    ids=["vit", "convit"],
)
@pytest.mark.parametrize("size", [64, 16])
def test_positions_of_another_image_size_are_resized_as_timm_does(
    tmp_path: Path, make: Any, options: dict[str, int], tokens: int, size: int
):
    from timm.layers import resample_abs_pos_embed

    model, other = (
        make(in_channels=3, num_classes=4, image_size=side, options=options).double().eval() for side in (32, size)
    )
    load_weights(model, save(tmp_path, {"model": other.state_dict()}))
    expected = dict(other.state_dict())
    single = resample_abs_pos_embed(expected["pos_embed"].float(), [8, 8], num_prefix_tokens=tokens)
    torch.testing.assert_close(model.pos_embed.detach().float(), single)
    expected["pos_embed"] = model.pos_embed
    literal_twin = make(in_channels=3, num_classes=4, options=options).double().eval()
    literal_twin.load_state_dict(expected)
    assert_logits(model, literal_twin(images()))


@pytest.mark.parametrize("change", ["patches", "tokens", "width"])
def test_positions_that_cannot_be_resized_and_other_patches_are_named(tmp_path: Path, change: str):
    def made(image_size: int = 64, patch_size: int = 4, width: int = 16) -> nn.Module:
        options = {**NARROW, "embed_dim": width}
        sizes = {"image_size": image_size, "patch_size": patch_size}
        return vit_b(in_channels=3, num_classes=4, options=options, **sizes)

    weights = made(**{"patches": {"patch_size": 8}, "tokens": {}, "width": {"width": 8}}[change]).state_dict()
    if change == "tokens":
        weights["pos_embed"] = weights["pos_embed"][:, 1:]
    message = {
        "patches": r"other shape patch_embed\.proj\.weight is \[16, 3, 4, 4\] in the model and \[16, 3, 8, 8\] in the",
        "tokens": r"other shape pos_embed is \[1, 257, 16\] in the model and \[1, 256, 16\] in the file",
        "width": r"other shape cls_token is \[1, 1, 16\] in the model and \[1, 1, 8\] in the file",
    }[change]
    with pytest.raises(ModelError, match=message):
        load_weights(made(), save(tmp_path, weights))
