"""Find layer groups, the four parts of a network that layer-wise methods treat differently, by parameter name.

Source: Nguyen et al., "On Intriguing Layer-Wise Properties of Robust Overfitting in Adversarial Training", TMLR 2024,
section 3. Residual networks: their four stages. VGG-16 with batch norm: the paper's list of indices, in which the
convolution 30 belongs to group 3 and its batch norm 31 to group 4. Wide ResNets have three stages; here group 4 is
their head (the paper does not say). Vision transformers, which the paper does not have: quarters of their blocks. Stem
and head of all others belong to no group, unless asked for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator
from torch import nn

from buttress.errors import PluginError
from buttress.types import ParamGroup

_VGG16_BN = {
    1: (0, 1, 3, 4, 7, 8),
    2: (10, 11, 14, 15, 17, 18),
    3: (20, 21, 24, 25, 27, 28, 30),
    4: (31, 34, 35, 37, 38, 40, 41),
}
# Where a module has all of these children, they are groups 1 to 4. DLA first: its layer1 and layer2 are its stem.
_STAGES = (("layer3", "layer4", "layer5", "layer6"), ("layer1", "layer2", "layer3", "layer4"))


def _numbered(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    try:
        return {int(key): patterns for key, patterns in value.items()}
    except ValueError:
        raise ValueError(f"expected group numbers as keys, got {sorted(map(str, value))}") from None


Patterns = Annotated[dict[int, list[str]], BeforeValidator(_numbered)]
"""Group number to patterns of parameter names: ``{1: ["stem.*"], 2: ["body.0.*", "body.1.*"]}``."""


def layer_names(
    model: nn.Module, layers: Collection[int], patterns: Mapping[int, Sequence[str]] | None, head_group: int | None
) -> list[str]:
    """Names of the parameters in the groups ``layers``. All groups together are the whole network.

    Args:
        model: a residual network, wide ResNet, DPN, DLA, ``vgg16_bn`` or vision transformer; any other network with
            ``patterns``.
        layers: numbers of groups.
        patterns: patterns of parameter names (``*`` matches anything) by group, in the place of the known ones.
        head_group: number of the group that the last norm and the classifier join, or None for no group.

    Raises:
        PluginError: the model has no known groups; a group is empty, unknown or overlaps another; a tied parameter is
            in two groups.
    """
    groups = layer_groups(model, patterns, head_group)
    unknown = sorted(set(layers) - set(groups))
    if unknown or not layers:
        raise PluginError(f"layers: expected numbers of {sorted(groups)}, got {sorted(layers)}")
    if set(layers) == set(groups):
        return [name for name, _ in model.named_parameters()]
    return [name for number in sorted(set(layers)) for name in groups[number]]


def layer_groups(
    model: nn.Module, patterns: Mapping[int, Sequence[str]] | None = None, head_group: int | None = None
) -> dict[int, list[str]]:
    """Every group's parameter names; see ``layer_names``."""
    if patterns is None:
        patterns = _known(model)
    every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    groups = {
        number: [name for name in every if any(fnmatchcase(name, pattern) for pattern in some)]
        for number, some in patterns.items()
    }
    if head_group is not None:
        if head_group not in groups:
            raise PluginError(f"head_group: expected one of {sorted(groups)}, got {head_group}")
        groups[head_group] += [name for name in _head(every, groups) if name not in groups[head_group]]
    _check(model, groups, patterns)
    once = {name for name, _ in model.named_parameters()}
    return {number: [name for name in names if name in once] for number, names in groups.items()}


def split_groups(groups: Sequence[ParamGroup], names: Collection[str], **changes: Any) -> list[ParamGroup]:
    """``groups`` with the parameters ``names`` moved into groups of their own, to which ``changes`` apply."""
    chosen, parts = set(names), []
    for group in groups:
        inside = tuple(name for name in group.names if name in chosen)
        outside = tuple(name for name in group.names if name not in chosen)
        if outside:
            parts.append(replace(group, names=outside))
        if inside:
            parts.append(replace(group, names=inside, **changes))
    return parts


def _known(model: nn.Module) -> dict[int, list[str]]:
    for path, module in model.named_modules():
        prefix, children = f"{path}." if path else "", dict(module.named_children())
        for stages in _STAGES:
            if all(stage in children for stage in stages):
                return {number: [f"{prefix}{stage}.*"] for number, stage in enumerate(stages, start=1)}
        if all(f"block{number}" in children for number in (1, 2, 3)):
            rest = [f"{prefix}{name}.*" for name in list(children)[list(children).index("block3") + 1 :]]
            return {**{number: [f"{prefix}block{number}.*"] for number in (1, 2, 3)}, 4: rest}
        if hasattr(module, "pos_embed") and _come_in_fours(children.get("blocks")):
            quarter = len(list(children["blocks"].children())) // 4
            starts = {n: (n - 1) * quarter for n in (1, 2, 3, 4)}
            return {n: [f"{prefix}blocks.{i}.*" for i in range(i0, i0 + quarter)] for n, i0 in starts.items()}
        if type(module).__name__ == "VGG" and _is_vgg16_bn(children["features"]):
            return {n: [f"{prefix}features.{i}.*" for i in indices] for n, indices in _VGG16_BN.items()}
    raise PluginError(
        f"model {type(model).__name__} has no layer groups that are known; name them by patterns of parameter names: "
        'groups: {1: ["stem.*"], 2: ...}'
    )


def _come_in_fours(blocks: nn.Module | None) -> bool:
    count = 0 if blocks is None else len(list(blocks.children()))
    return count > 0 and count % 4 == 0


def _is_vgg16_bn(features: nn.Module) -> bool:
    wanted = sorted(index for indices in _VGG16_BN.values() for index in indices)
    return [i for i, layer in enumerate(features.children()) if any(True for _ in layer.parameters())] == wanted


def _head(every: Sequence[str], groups: Mapping[int, Sequence[str]]) -> list[str]:
    """Parameters after the last one of the groups."""
    last = max(every.index(name) for names in groups.values() for name in names)
    return list(every[last + 1 :])


def _check(model: nn.Module, groups: Mapping[int, Sequence[str]], patterns: Mapping[int, Sequence[str]]) -> None:
    owner: dict[int, tuple[int, str]] = {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for number, names in groups.items():
        if not names:
            raise PluginError(f"groups: group {number} ({', '.join(patterns[number])}) names no parameter of the model")
        for name in names:
            other, first = owner.setdefault(id(parameters[name]), (number, name))
            if other != number:
                tied = f"parameter {name!r}" if first == name else f"parameter {name!r}, tied to {first!r},"
                raise PluginError(f"groups: {tied} is in groups {other} and {number}; every one belongs to one group")
