"""Networks of public code, written again as functions of a file's tensors by their names there, in eval mode."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
Activation = Callable[[Tensor], Tensor]


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])


def pooled(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x.mean((2, 3)), w[f"{name}.weight"], w[f"{name}.bias"])


def vgg16_bn(w: Weights, x: Tensor) -> Tensor:
    """The CIFAR form: indices count convolution, batch norm, ReLU and maximum."""
    index = 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = F.conv2d(x, w[f"features.{index}.weight"], w[f"features.{index}.bias"], padding=1)
            x = F.relu(norm(w, f"features.{index + 1}", x))
            index += 3
        x = F.max_pool2d(x, 2)
        index += 1
    return pooled(x, w, "classifier")


def dpn26(w: Weights, x: Tensor, groups: int) -> Tensor:
    """The CIFAR form, of any number of groups; the residual path of a stage has 8 groups of channels, then 16 ..."""
    x = F.relu(norm(w, "bn1", F.conv2d(x, w["conv1.weight"], padding=1)))
    for stage in range(1, 5):
        residual = 8 * groups * 2 ** (stage - 1)
        for number in range(2):
            block, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            out = F.relu(norm(w, f"{block}.bn1", F.conv2d(x, w[f"{block}.conv1.weight"])))
            out = F.conv2d(out, w[f"{block}.conv2.weight"], stride=stride, padding=1, groups=groups)
            out = F.conv2d(F.relu(norm(w, f"{block}.bn2", out)), w[f"{block}.conv3.weight"])
            out = norm(w, f"{block}.bn3", out)
            if number == 0:
                x = norm(w, f"{block}.shortcut.1", F.conv2d(x, w[f"{block}.shortcut.0.weight"], stride=stride))
            parts = [x[:, :residual] + out[:, :residual], x[:, residual:], out[:, residual:]]
            x = F.relu(torch.cat(parts, 1))
    return pooled(x, w, "linear")


def dla(w: Weights, x: Tensor) -> Tensor:
    """The CIFAR form: trees of 1, 2, 2 and 1 levels."""
    for name in ("base", "layer1", "layer2"):
        x = F.relu(norm(w, f"{name}.1", F.conv2d(x, w[f"{name}.0.weight"], padding=1)))
    for name, levels, stride in (("layer3", 1, 1), ("layer4", 2, 2), ("layer5", 2, 2), ("layer6", 1, 2)):
        x = _tree(w, name, x, levels, stride)
    return pooled(x, w, "linear")


def _tree(w: Weights, name: str, x: Tensor, levels: int, stride: int) -> Tensor:
    joined = []
    if levels == 2:
        joined.append(_basic(w, f"{name}.prev_root", x, stride))
        x = _tree(w, f"{name}.level_1", x, 1, stride)
        joined.append(x)
        stride = 1
    x = _basic(w, f"{name}.left_node", x, stride)
    joined.append(x)
    joined.append(_basic(w, f"{name}.right_node", x, 1))
    return F.relu(norm(w, f"{name}.root.bn", F.conv2d(torch.cat(joined, 1), w[f"{name}.root.conv.weight"])))


def _basic(w: Weights, name: str, x: Tensor, stride: int) -> Tensor:
    out = F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1)
    out = F.conv2d(F.relu(norm(w, f"{name}.bn1", out)), w[f"{name}.conv2.weight"], padding=1)
    out = norm(w, f"{name}.bn2", out)
    if f"{name}.shortcut.0.weight" in w:
        x = norm(w, f"{name}.shortcut.1", F.conv2d(x, w[f"{name}.shortcut.0.weight"], stride=stride))
    return F.relu(out + x)


def preact_of_rice(w: Weights, x: Tensor, blocks: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """PreActResNet of the code of Rice et al. and of AWP's."""
    x = F.conv2d(x, w["conv1.weight"], padding=1)
    for stage, (count, first_stride) in enumerate(zip(blocks, strides, strict=True), start=1):
        for number in range(count):
            block, stride = f"layer{stage}.{number}", first_stride if number == 0 else 1
            first = F.relu(norm(w, f"{block}.bn1", x))
            out = F.conv2d(first, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(F.relu(norm(w, f"{block}.bn2", out)), w[f"{block}.conv2.weight"], padding=1)
            learned = f"{block}.shortcut.0.weight"
            x = out + (F.conv2d(first, w[learned], stride=stride) if learned in w else x)
    return pooled(F.relu(norm(w, "bn", x)), w, "linear")


def wrn_of_trades(w: Weights, x: Tensor, depth: int) -> Tensor:
    """WRN of TRADES' and AWP's code, with ReLU."""
    x = F.conv2d(x, w["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for number in range((depth - 4) // 6):
            block, stride = f"block{group}.layer.{number}", 2 if group > 1 and number == 0 else 1
            first = F.relu(norm(w, f"{block}.bn1", x))
            out = F.conv2d(first, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(F.relu(norm(w, f"{block}.bn2", out)), w[f"{block}.conv2.weight"], padding=1)
            learned = f"{block}.convShortcut.weight"
            x = out + (F.conv2d(first, w[learned], stride=stride) if learned in w else x)
    return pooled(F.relu(norm(w, "bn1", x)), w, "fc")


def wrn_of_deepmind(w: Weights, x: Tensor, depth: int, activation: Activation, mean: Tensor, std: Tensor) -> Tensor:
    """WRN of DeepMind's code and of RobustBench's networks that follow it; images of an even side."""
    x = F.conv2d((x - mean) / std, w["init_conv.weight"], padding=1)
    for group in range(3):
        for number in range((depth - 4) // 6):
            block, halves = f"layer.{group}.block.{number}", group > 0 and number == 0
            first = activation(norm(w, f"{block}.batchnorm_0", x))
            padded = F.pad(first, (0, 1, 0, 1) if halves else (1, 1, 1, 1))
            out = F.conv2d(padded, w[f"{block}.conv_0.weight"], stride=2 if halves else 1)
            out = F.conv2d(activation(norm(w, f"{block}.batchnorm_1", out)), w[f"{block}.conv_1.weight"], padding=1)
            learned = f"{block}.shortcut.weight"
            x = out + (F.conv2d(first, w[learned], stride=2 if halves else 1) if learned in w else x)
    return pooled(activation(norm(w, "batchnorm", x)), w, "logits")
