"""Input noise: Gaussian noise on the training inputs, inside the box of the threat model."""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from buttress import Batch, Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Gaussian noise on the training inputs.

    Args:
        sigma: standard deviation, in units of the input.
    """

    sigma: Annotated[float, Ge(0)] = 0.05

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        noise = ctx.draw("noise", batch.x.shape)  # what engine.step(draws=...) gives, or None
        if noise is None:
            # Never the global generator: runs repeat, and plugins do not disturb each other.
            generator = ctx.generator("noise")
            noise = torch.randn(batch.x.shape, generator=generator, dtype=batch.x.dtype, device=batch.x.device)
        return replace(batch, x=ctx.threat.clamp(noisy(batch.x, noise, self.sigma)))


def noisy(x: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """``x [B,*]`` plus ``sigma`` times ``noise [B,*]``; a new tensor."""
    return x + sigma * noise


def test_noisy_known_values() -> None:
    x = torch.zeros(1, 2)
    torch.testing.assert_close(noisy(x, torch.tensor([[1.0, -2.0]]), 0.5), torch.tensor([[0.5, -1.0]]))
    assert torch.equal(x, torch.zeros(1, 2))
