"""Gradient centralization: the mean of each output unit's gradient is taken away before the optimizer steps.

Source: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks",
ECCV 2020, arXiv:2004.01461.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buttress import Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Example:
    """Gradient centralization of every weight that has an input dimension.

    Args:
        conv_only: centralize convolutions only, and leave linear layers alone.
    """

    conv_only: bool = False

    @hookimpl
    def adjust_grads(self, model: nn.Module, ctx: Context) -> None:
        smallest = 3 if self.conv_only else 2  # a linear weight is [out,in], a convolution's [out,in,*]
        grads = [p.grad for p in model.parameters() if p.grad is not None and p.dim() >= smallest]
        centralize_(grads)
        ctx.record("centralized", len(grads))


@torch.no_grad()
def centralize_(grads: Iterable[Tensor]) -> None:
    """Subtract from each gradient ``[out,in,*]``, in place, its mean over all dimensions but the first."""
    for grad in grads:
        grad -= grad.mean(tuple(range(1, grad.dim())), keepdim=True)


def test_centralize_known_values() -> None:
    grad = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    centralize_([grad])
    torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
