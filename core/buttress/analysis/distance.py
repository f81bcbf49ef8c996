"""How far weights have moved, layer group by layer group."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from buttress.errors import PluginError
from buttress.nn.layers import layer_groups


class Distance(NamedTuple):
    """Of two sets of weights: ``||a - b||``, that over ``||b||``, and the cosine of the angle between a and b."""

    absolute: float
    relative: float
    cosine: float


def distances(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Mapping[str, Sequence[str]]
) -> dict[str, Distance]:
    """L2 distances in float64, over all elements of each group together.

    Args:
        a: parameters by name.
        b: parameters of the same names and shapes.
        groups: group name to parameter names.
    """
    return {group: _distance(_joined(a, names), _joined(b, names)) for group, names in groups.items()}


def named_groups(model: nn.Module) -> dict[str, list[str]]:
    """Parameter names by group: those of layer-wise methods where known, with the rest as ``stem and head``.

    For other models a group is what stands before the first dot of the names.
    """
    every = [name for name, _ in model.named_parameters()]
    try:
        known = layer_groups(model)
    except PluginError:
        return {
            prefix: [name for name in every if name.partition(".")[0] == prefix]
            for prefix in dict.fromkeys(name.partition(".")[0] for name in every)
        }
    inside = {name for names in known.values() for name in names}
    rest = [name for name in every if name not in inside]
    groups = {f"group {number}": list(names) for number, names in known.items()}
    return {**groups, "stem and head": rest} if rest else groups


def _joined(weights: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.cat([weights[name].detach().double().flatten() for name in names])


def _distance(a: Tensor, b: Tensor) -> Distance:
    absolute, own, other = float((a - b).norm()), float(b.norm()), float(a.norm())
    cosine = float(a @ b) / (own * other) if own * other else float("nan")
    return Distance(absolute, absolute / own if own else float("nan"), cosine)
