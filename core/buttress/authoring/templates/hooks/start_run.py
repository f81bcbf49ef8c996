"""Initial norm: says how large the weights are when the run begins."""

import logging

import torch
from torch import Tensor, nn

from buttress import hookimpl

logger = logging.getLogger(__name__)


class Example:
    """Says the norm of the initial weights."""

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        logger.info("initial norm %.4g", weight_norm(model).item())


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
