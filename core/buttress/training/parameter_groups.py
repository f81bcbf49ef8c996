"""Split the parameters of a model into groups with options of their own, as the optimizer section of a config says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from buttress.config.file import ConfigFile
from buttress.errors import ConfigError
from buttress.nn.depth import depths
from buttress.nn.layers import split_groups
from buttress.nn.weights import bias_names, matrix_names, norm_names, vector_names
from buttress.training.muon import ADAMW, MUON, Muon
from buttress.types import ParamGroup

Grouping = Callable[[list[ParamGroup], nn.Module], list[ParamGroup]]

_NAMES = {"norm": norm_names, "bias": bias_names, "vectors": vector_names}
"""Kind of parameters to the function that names them."""


def grouping(file: ConfigFile, make: partial[Optimizer]) -> Grouping:
    """The function that splits parameters into groups, for an optimizer that ``make`` makes.

    Raises:
        ConfigError: the optimizer has not what the config asks of its groups.
    """
    section, place = file.config.optimizer, file.place / "optimizer"
    if section.no_decay and not _takes(make, "weight_decay"):
        raise ConfigError(f"optimizer {section.chosen} has no weight_decay; leave this out", key=place / "no_decay")

    def split(groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        if make.func is Muon:
            with (place / "name").error_context():
                groups = by_algorithm(groups, model, inspect.signature(make).parameters)
        if section.no_decay:
            groups = without_decay(groups, model, section.no_decay)
        if section.layer_decay is not None:
            with (place / "layer_decay").error_context():
                groups = by_depth(groups, model, section.layer_decay, section.lr)
        return groups

    return split


def _takes(make: Callable[..., Optimizer], name: str) -> bool:
    parameters = inspect.signature(make).parameters
    return name in parameters or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())


def without_decay(groups: Sequence[ParamGroup], model: nn.Module, kinds: Collection[str]) -> list[ParamGroup]:
    """``groups`` in which no weight decay acts on some ``kinds`` of parameters: ``norm``, ``bias``, ``vectors``."""
    names = set[str]().union(*(_NAMES[kind](model) for kind in kinds))
    return _with_options(groups, names, weight_decay=0.0)


def by_algorithm(
    groups: Sequence[ParamGroup], model: nn.Module, settings: Mapping[str, inspect.Parameter]
) -> list[ParamGroup]:
    """``groups`` split into parameters of Muon and of AdamW, with the learning rate of AdamW.

    Args:
        groups: groups by name.
        model: network.
        settings: name to setting of ``Muon``, its default being the value.

    Raises:
        ConfigError: nothing is left for Muon.
    """
    names = matrix_names(model)
    chosen = set(names if settings["ends"].default == MUON else names[1:-1])
    if not chosen & {name for group in groups for name in group.names}:
        raise ConfigError(
            f"model {type(model).__name__} has no matrix or convolution for Muon between its first and its last one, "
            "which are AdamW's; set ends: muon, or take another optimizer"
        )
    others = {name for group in groups for name in group.names} - chosen
    rate = settings["adamw_lr"].default
    parts = _with_options(groups, others, algorithm=ADAMW, lr=rate)
    return [part if "algorithm" in part.options else _changed(part, algorithm=MUON) for part in parts]


def by_depth(groups: Sequence[ParamGroup], model: nn.Module, decay: float, lr: float) -> list[ParamGroup]:
    """``groups`` split by depth, the deepest first, with ``decay ** (deepest - depth)`` times their learning rates.

    Args:
        groups: groups by name.
        model: network, see ``nn.depth``.
        decay: factor from each layer of depth to the one before it.
        lr: learning rate of groups that have none of their own.

    Raises:
        ConfigError: the network has one layer of depth.
    """
    depth_of = depths(model)
    deepest = max(depth_of.values())
    if deepest == 0:
        raise ConfigError(f"model {type(model).__name__} has one layer of depth, and none before it; leave this out")
    parts = []
    for depth in range(deepest, -1, -1):
        for group in groups:
            names = tuple(name for name in group.names if depth_of[name] == depth)
            scaled = group.options.get("lr", lr) * decay ** (deepest - depth)
            parts.append(replace(group, names=names, options={**group.options, "lr": scaled}))
    return [part for part in parts if part.names]


def _with_options(groups: Sequence[ParamGroup], names: Collection[str], **options: Any) -> list[ParamGroup]:
    """``groups`` with the parameters ``names`` in groups of their own that have ``options`` besides."""
    return [
        _changed(group, **options) if set(group.names) <= set(names) else group for group in split_groups(groups, names)
    ]


def _changed(group: ParamGroup, **options: Any) -> ParamGroup:
    return replace(group, options={**group.options, **options})
