"""Views of a model: its modes, flags, gradients and weights as tensors by name, to be compared bit for bit."""

import torch
from torch import Tensor, nn

from buttress.testing.subject import copied


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
