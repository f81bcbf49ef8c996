"""Translate weights of public code: names of residual networks, the input's normalization, position embeddings.

Sources of the names: the code of TRADES (Zhang et al., arXiv:1901.08573), which that of AWP and many entries of
RobustBench share, and DeepMind's code (Gowal et al., arXiv:2010.03593), whose networks RobustBench has as
``dm_wide_resnet``. Pre-activation networks: the code of Rice et al. (arXiv:2002.11569), which that of AWP shares, wraps
the convolution of a shortcut. Position embeddings are resized as timm does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.errors import ModelError
from buttress.nn.normalization import Normalize


@dataclass(frozen=True)
class _Layout:
    """Names of a wide ResNet in public code.

    Args:
        code: name of the code, for messages.
        mark: pattern of names that no other layout has.
        rules: patterns of parts of names, and those of buttress in their place.
        unused: pattern of names of layers that the forward leaves out.
        padding: setting of ``wrn`` for the sides that a 3x3 convolution of stride 2 pads.
    """

    code: str
    mark: str
    rules: Mapping[str, str]
    padding: str
    unused: str = r"(?!)"

    def translate(self, name: str) -> str:
        for pattern, own in self.rules.items():
            name = re.sub(pattern, own, name)
        return name


_LAYOUTS = (
    _Layout(
        "TRADES and AWP",
        mark=r"\bblock1\.layer\.0\.",
        rules={r"\b(block[123])\.layer\.": r"\1.", r"\bconvShortcut\.": "shortcut."},
        padding="both",
        unused=r"\bsub_block1\.",
    ),
    _Layout(
        "DeepMind",
        mark=r"\blayer\.0\.block\.0\.",
        rules={
            r"\binit_conv\.": "conv1.",
            **{rf"\blayer\.{group}\.block\.": f"block{group + 1}." for group in range(3)},
            r"\bbatchnorm_0\.": "bn1.",
            r"\bconv_0\.": "conv1.",
            r"\bbatchnorm_1\.": "bn2.",
            r"\bconv_1\.": "conv2.",
            r"\bbatchnorm\.": "bn1.",
            r"\blogits\.": "fc.",
        },
        padding="end",
    ),
)
# Padding of a strided convolution itself, by the setting of ``wrn``.
_PADDING = {"both": (1, 1), "end": (0, 0)}
# Names of the buffers of public layers that normalize the input.
_NORMALIZATION = {"mean": "std", "mu": "sigma"}
# Difference of two values of a normalization that are the same number, rounded to four digits or not.
_ROUNDING = 1e-4


def translated(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """``weights`` of public code by the names that they have in ``model``, as far as their layout is known.

    Args:
        model: the model that is to have them.
        weights: tensors by name; prefixes of wrappers stay.
        source: name of the file, for messages.

    Raises:
        ModelError: with these weights the model would compute another function: it pads other sides, or normalizes
            its input otherwise.
    """
    layout = _layout_of(weights) if _has(model, r"\bblock1\.0\.conv1\.") else None
    result = _with_bare_shortcuts(model, weights)
    if layout is not None:
        _expect_padding(model, layout, source)
        result = {
            layout.translate(name): tensor for name, tensor in weights.items() if not re.search(layout.unused, name)
        }
    for mean, std in list(_normalizations(model, result)):
        _expect_normalization(model, result.pop(mean), result.pop(std), source)
    return _with_resized_positions(model, result)


def _with_bare_shortcuts(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` with the shortcuts of pre-activation blocks named as convolutions by themselves, as in ``model``."""
    block = r"\blayer[1-4]\.\d+\.shortcut\."
    if not _has(model, block + "weight$"):
        return dict(weights)
    return {re.sub(f"({block})0\\.", r"\1", name): tensor for name, tensor in weights.items()}


def _layout_of(weights: Mapping[str, Tensor]) -> _Layout | None:
    return next((each for each in _LAYOUTS if any(re.search(each.mark, name) for name in weights)), None)


def _has(model: nn.Module, pattern: str) -> bool:
    return any(re.search(pattern, name) for name, _ in model.named_parameters())


def _expect_padding(model: nn.Module, layout: _Layout, source: str) -> None:
    halving = [each for each in model.modules() if isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3)]
    if any(each.padding != _PADDING[layout.padding] for each in halving if each.stride == (2, 2)):
        raise ModelError(
            f"{source} is of the wide ResNet of {layout.code}, which pads otherwise where it halves an image; "
            f"choose model: {{name: wrn, padding: {layout.padding}, ...}}"
        )


def _normalizations(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names of the mean and the deviation that a layer of the file has, and the model has not."""
    own = {name.rpartition(".")[2] for name in model.state_dict()}
    for name in weights:
        path, dot, last = name.rpartition(".")
        std = f"{path}{dot}{_NORMALIZATION.get(last)}"
        if last not in own and std in weights:
            yield name, std


def _expect_normalization(model: nn.Module, mean: Tensor, std: Tensor, source: str) -> None:
    layer = next((each for each in model.modules() if isinstance(each, Normalize)), None)
    own = (torch.zeros(mean.numel()), torch.ones(std.numel())) if layer is None else (layer.mean, layer.std)
    theirs, ours = (_numbers(mean), _numbers(std)), (_numbers(own[0]), _numbers(own[1]))
    if not (_close(theirs[0], ours[0]) and _close(theirs[1], ours[1])):
        now = "not at all" if layer is None else f"by mean {ours[0]} and std {ours[1]}"
        raise ModelError(
            f"{source} normalizes the input by mean {theirs[0]} and std {theirs[1]}, the model {now}; set "
            f"model.normalize: {{mean: {theirs[0]}, std: {theirs[1]}}}"
        )


def _numbers(values: Tensor) -> list[float]:
    return [round(float(value), 6) for value in values.flatten()]


def _close(one: list[float], two: list[float]) -> bool:
    return len(one) == len(two) and all(abs(a - b) <= _ROUNDING for a, b in zip(one, two, strict=True))


def _with_resized_positions(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` with the position embedding on the grid of the model's patches, where both grids are square."""
    own = [tensor for name, tensor in model.named_parameters() if _is_position(name, tensor)]
    if len(own) != 1:
        return dict(weights)
    return {name: _resized(each, own[0]) if _is_position(name, each) else each for name, each in weights.items()}


def _is_position(name: str, tensor: Tensor) -> bool:
    return name.rpartition(".")[2] == "pos_embed" and tensor.dim() == 3


def _resized(positions: Tensor, like: Tensor) -> Tensor:
    """``positions [1,N,D]`` on the square grid of ``like [1,M,D]``; the positions of class tokens are kept."""
    tokens, theirs = _class_tokens(like.shape[1]), _class_tokens(positions.shape[1])
    if tokens is None or tokens != theirs or positions.shape[1] == like.shape[1]:
        return positions
    kept, grid = positions[:, :tokens], positions[:, tokens:]
    side, new = isqrt(grid.shape[1]), isqrt(like.shape[1] - tokens)
    wide = grid.to(torch.promote_types(grid.dtype, torch.float32)).transpose(1, 2).reshape(len(grid), -1, side, side)
    resized = F.interpolate(wide, (new, new), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    return torch.cat([kept, resized.to(positions.dtype)], dim=1)


def _class_tokens(length: int) -> int | None:
    """Number of the class and distillation tokens before a square grid; None where the rest is no square."""
    return next(
        (tokens for tokens in (0, 1, 2) if length > tokens and isqrt(length - tokens) ** 2 == length - tokens), None
    )
