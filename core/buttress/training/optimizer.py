"""Make the optimizer of a config, and try it once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.arguments import read_arguments
from buttress.components.own_modules import expect_kind
from buttress.config.file import ConfigFile
from buttress.config.targets import OPTIMIZER
from buttress.engine.groups import GroupingFactory
from buttress.errors import ConfigError, kind_and_first_line, nearest
from buttress.training.device import configured_device
from buttress.training.muon import MUON, Muon
from buttress.training.parameter_groups import grouping

Make = partial[Optimizer]

_FORMS = frozenset({"fused", "foreach", "differentiable", "capturable"})
"""Arguments of torch's optimizers that choose the form of the step; a config that sets one has chosen."""
_FUSED_DTYPES = {torch.float32, torch.float64}  # torch's fused SGD is wrong in half precision (torch issue 191763)
_ELEMENTS = 64  # of the weight in the trial: more than the fused forms treat at once


@dataclass(frozen=True)
class ConfiguredOptimizer:
    """The optimizer of a config.

    Args:
        factory: makes it for groups of parameters.
        arguments: all arguments of its class beside the parameters.
        settings: the same, as the section of a config has them beside a name, or under ``args``.
    """

    factory: GroupingFactory
    arguments: dict[str, Any]
    settings: dict[str, Any]


def configured_optimizer(file: ConfigFile) -> ConfiguredOptimizer:
    """The optimizer that a config describes, tried once.

    It is fused where torch has that form for its class, the device and the dtypes of the weights, unless the config
    chooses a form.

    Raises:
        ConfigError: unknown optimizer, or settings that it refuses.
        TrustError: the user has not trusted the module of a target.
    """
    section, place = file.config.optimizer, file.place / "optimizer"
    kind = _kind_of(file)
    given = section.given()
    args = read_arguments(kind, given, place if section.target is None else place / "args", taken=("params", "lr"))
    arguments = {"lr": section.lr, **args}
    make: Make = partial(kind, **arguments)
    device = configured_device(file)
    try:
        _first_step(make, device)
    except Exception as problem:  # optimizers refuse settings by many kinds, AssertionError among them
        raise ConfigError(f"{kind.__name__}: {kind_and_first_line(problem)}", key=place) from None
    fused: Make = partial(make, fused=True)
    can_be_fused = section.target is None and not _FORMS & arguments.keys() and _can_step(fused, device)

    def factory(groups: list[dict[str, Any]]) -> Optimizer:
        dtypes = {weight.dtype for group in groups for weight in group["params"]}
        if arguments.get("fused"):
            with (place / "fused").error_context():
                _expect_updates(make, device, dtypes)
        return fused(groups) if can_be_fused and dtypes <= _FUSED_DTYPES else make(groups)

    return ConfiguredOptimizer(
        GroupingFactory(factory, grouping(file, make)),
        arguments,
        arguments if section.target is None else args,
    )


def _kind_of(file: ConfigFile) -> Callable[..., Optimizer]:
    """The class, or the function, that makes the optimizer."""
    section, place = file.config.optimizer, file.place / "optimizer"
    if section.target is not None:
        kind = file.own.imported("optimizer", place / "target", OPTIMIZER.error)
        expect_kind(OPTIMIZER, kind, section.target, place / "target")
        chosen: Callable[..., Optimizer] = kind
        return chosen
    known: dict[str, Callable[..., Optimizer]] = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer and name != "LBFGS"
    }
    known[MUON] = Muon
    assert section.name is not None
    if section.name.lower() not in known:
        raise ConfigError(f"unknown optimizer {section.name!r}{nearest(section.name, known)}", key=place / "name")
    return known[section.name.lower()]


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """``optimizer.load_state_dict``, after which steps have the saved form, but fused only where ``optimizer`` was."""
    was_fused = [group.get("fused") for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, fused in zip(optimizer.param_groups, was_fused, strict=True):
        if group.get("fused"):  # not on every device
            group["fused"] = fused


def _first_step(make: Make, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A weight of zeros after one step, in which its gradient is 1."""
    weight = nn.Parameter(torch.zeros(_ELEMENTS, dtype=dtype, device=device))
    weight.grad = torch.ones_like(weight)
    make([weight]).step()
    return weight.detach()


def _can_step(make: Make, device: torch.device) -> bool:
    try:
        _first_step(make, device)
    except Exception:  # torch refuses in as many ways
        return False
    return True


def _expect_updates(make: Make, device: torch.device, dtypes: Iterable[torch.dtype]) -> None:
    """Expect that the step, which a config wants fused, moves every element of a weight of each dtype.

    Raises:
        ConfigError: it leaves some as they were.
    """
    for dtype in dtypes:
        if not _first_step(make, device, dtype).all():
            raise ConfigError(
                f"torch {torch.__version__} on {device.type} leaves weights of {dtype} as they are in this form; leave "
                "fused out"
            )
