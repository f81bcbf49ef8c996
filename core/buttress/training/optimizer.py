"""Make the optimizer of a config, and try it once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from buttress.components.arguments import read_arguments
from buttress.config.file import ConfigFile
from buttress.errors import ConfigError, kind_and_first_line, nearest
from buttress.training.device import configured_device


def optimizer_factory(file: ConfigFile) -> tuple[Callable[[list[dict[str, Any]]], Optimizer], dict[str, Any]]:
    """The function that makes the optimizer for groups of parameters, and all settings of it.

    Raises:
        ConfigError: unknown optimizer, or settings that it refuses.
    """
    section, place = file.config.optimizer, file.place / "optimizer"
    known = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer and name != "LBFGS"
    }
    kind = known.get(section.name.lower())
    if kind is None:
        raise ConfigError(f"unknown optimizer {section.name!r}{nearest(section.name, known)}", key=place / "name")
    settings = {"lr": section.lr, **read_arguments(kind, section.settings(), place, taken=("params", "lr"))}

    def factory(groups: list[dict[str, Any]]) -> Optimizer:
        return kind(groups, **settings)

    try:
        weight = nn.Parameter(torch.zeros(1, device=configured_device(file)))
        weight.grad = torch.zeros_like(weight)
        factory([{"params": [weight]}]).step()
    except Exception as problem:  # optimizers refuse settings by many kinds, AssertionError among them
        raise ConfigError(f"{kind.__name__}: {kind_and_first_line(problem)}", key=place) from None
    return factory, settings
