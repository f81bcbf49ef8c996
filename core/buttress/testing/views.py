"""Views of a model and of a plugin's state as tensors by name, to be compared bit for bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from buttress.engine.engine import Engine
from buttress.testing.subject import Subject, copied


def modes(model: nn.Module) -> dict[str, Tensor]:
    """Whether each module is in train mode."""
    return {f"module {name or 'the model'}": torch.tensor(module.training) for name, module in model.named_modules()}


def flags(model: nn.Module) -> dict[str, Tensor]:
    """``requires_grad`` of each weight."""
    return {f"requires_grad of {name}": torch.tensor(p.requires_grad) for name, p in model.named_parameters()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of each weight."""
    return copied(dict(model.named_parameters()))


def gradient_copies(model: nn.Module) -> dict[str, Tensor]:
    """A copy of each ``.grad`` that is there."""
    return {f"the .grad of {name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plugin_in(engine: Engine, subject: Subject) -> Any:
    """The object under examination in the stack of ``engine``."""
    return next(loaded.plugin for loaded in engine.plugins if loaded.label == subject.name)


def tensors_in(value: object, path: str = "state") -> dict[str, Tensor]:
    """Every tensor in a nested value, and every number as one, by its path."""
    if isinstance(value, (Tensor, float, int)):
        return {path: torch.as_tensor(value)}
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return {name: tensor for key, item in items for name, tensor in tensors_in(item, f"{path}.{key}").items()}


def state_copies(engine: Engine, subject: Subject) -> dict[str, Tensor]:
    """A copy of every tensor and number in the plugin's state; empty where it has none. NaN is equal to NaN."""
    if subject.traits.state_dict is None:
        return {}
    state = tensors_in(plugin_in(engine, subject).state_dict())
    return {name: torch.nan_to_num(value, nan=0.125) for name, value in copied(state).items()}
