"""Make the optimizer of a config, and try it once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.arguments import read_arguments
from buttress.config.file import ConfigFile
from buttress.errors import ConfigError, kind_and_first_line, nearest
from buttress.training.device import configured_device

Make = Callable[..., Optimizer]

_FORMS = frozenset({"fused", "foreach", "differentiable", "capturable"})
"""Arguments of torch's optimizers that choose the form of the step; a config that sets one has chosen."""
_FUSED_DTYPES = {torch.float32, torch.float64}  # torch's fused SGD is wrong in half precision (torch issue 191763)
_ELEMENTS = 64  # of the weight in the trial: more than the fused forms treat at once


def optimizer_factory(file: ConfigFile) -> tuple[Callable[[list[dict[str, Any]]], Optimizer], dict[str, Any]]:
    """The function that makes the optimizer for groups of parameters, and all settings of it.

    The optimizer is fused where torch has that form for its class, the device and the dtypes of the weights, unless the
    config chooses a form.

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
    make: Make = partial(kind, **settings)
    device = configured_device(file)
    try:
        _first_step(make, device)
    except Exception as problem:  # optimizers refuse settings by many kinds, AssertionError among them
        raise ConfigError(f"{kind.__name__}: {kind_and_first_line(problem)}", key=place) from None
    fused: Make = partial(make, fused=True)
    can_be_fused = not _FORMS & settings.keys() and _can_step(fused, device)

    def factory(groups: list[dict[str, Any]]) -> Optimizer:
        dtypes = {weight.dtype for group in groups for weight in group["params"]}
        if settings.get("fused"):
            with (place / "fused").error_context():
                _expect_updates(make, device, dtypes)
        return fused(groups) if can_be_fused and dtypes <= _FUSED_DTYPES else make(groups)

    return factory, settings


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
