"""One step of signed gradient ascent on the cross-entropy, from a random start.

Source: Wong, Rice, Kolter, "Fast is better than free: Revisiting adversarial training", arXiv:2001.03994.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from buttress import Adv, Batch, Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """One step of signed gradient ascent from a random point of the ball.

    Args:
        reach: length of the step, in units of eps.
    """

    reach: Annotated[float, Ge(0)] = 1.25

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        start = ctx.threat.random_start(batch.x, ctx.generator("start"))
        moved = signed_step(model, start, batch.y, self.reach * float(ctx.threat.eps))
        return Adv(ctx.threat.project(moved, batch.x))


def signed_step(model: nn.Module, x: Tensor, y: Tensor, length: float) -> Tensor:
    """``x [B,*]`` moved by ``length`` along the sign of the gradient of the cross-entropy with labels ``y``."""
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
    return (x + length * grad.sign()).detach()


def test_signed_step_of_a_linear_model() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    moved = signed_step(model, torch.zeros(1, 2), torch.tensor([0]), 0.1)
    torch.testing.assert_close(moved, torch.tensor([[-0.1, 0.1]]))  # away from class 0
