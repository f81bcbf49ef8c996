"""Initial norm: records how large the weights are when the run begins."""

import torch
from torch import Tensor, nn

from buttress import hookimpl
from buttress.context import Context


class Example:
    """Records the norm of the initial weights."""

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        ctx.record("initial_norm", weight_norm(model))


@torch.no_grad()
def weight_norm(model: nn.Module) -> Tensor:
    """0-dim, the L2 norm of all weights together."""
    total: Tensor = torch.stack([weight.norm() for weight in model.parameters()]).norm()
    return total


def test_weight_norm_known_value() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.bias.fill_(4.0)
    assert float(weight_norm(model)) == 5.0
