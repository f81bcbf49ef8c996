"""Attack warm-up: adversarial examples of any attack begin near the clean ones and move out over the first epochs."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from buttress import Adv, Batch, Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Shortens the perturbations of the attack in the first epochs.

    Args:
        warmup: number of epochs; from the last of them on, the attack is left as it is.
    """

    warmup: Annotated[int, Ge(1)] = 3

    @hookimpl(wrapper=True)
    def generate_adv(self, batch: Batch, ctx: Context) -> Generator[None, Adv, Adv]:
        adv = yield  # the answer of the attack, or of the next wrapper
        share = (ctx.epoch + 1) / self.warmup
        if share >= 1:
            return adv
        return replace(adv, x=ctx.threat.project(shortened(adv.x, batch.x, share), batch.x))


def shortened(adv: Tensor, x: Tensor, share: float) -> Tensor:
    """The points at a share of the way from ``x [B,*]`` to ``adv [B,*]``."""
    return torch.lerp(x, adv, share)


def test_shortened_known_values() -> None:
    adv, x = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(shortened(adv, x, 0.25), torch.tensor([[0.25, 1.0]]))
