"""Random weight perturbation: loss and gradient are taken at weights with noise; the core takes the noise back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from buttress import Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Adds to every weight tensor a random direction whose norm is a share of the tensor's own.

    Args:
        gamma: norm of the perturbation, relative to that of the weights.
    """

    exit_order = "restore_then_step"

    gamma: Annotated[float, Ge(0)] = 0.01

    @hookimpl
    def perturb_weights(self, model: nn.Module, ctx: Context) -> AbstractContextManager[None]:
        return self._perturbed(model, ctx)

    @contextmanager
    def _perturbed(self, model: nn.Module, ctx: Context) -> Iterator[None]:
        generator = ctx.generator("direction")
        for weight in model.parameters():
            shape, dtype = weight.shape, weight.dtype
            direction = torch.randn(shape, generator=generator, dtype=dtype, device=weight.device)
            add_relative_(weight, direction, self.gamma)
        yield  # loss and backward happen here; afterwards the core puts the weights back, bit for bit


@torch.no_grad()
def add_relative_(weight: Tensor, direction: Tensor, gamma: float) -> None:
    """Add to ``weight``, in place, ``direction`` scaled to ``gamma`` times the norm of ``weight``."""
    weight += direction * (gamma * weight.norm() / direction.norm().clamp_min(1e-12))


def test_add_relative_has_the_norm_asked_for() -> None:
    weight = torch.tensor([3.0, 4.0])
    add_relative_(weight, torch.tensor([0.0, 2.0]), 0.1)
    torch.testing.assert_close(weight, torch.tensor([3.0, 4.5]))
