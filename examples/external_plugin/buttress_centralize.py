"""Gradient centralization: the mean of each output unit's gradient is taken away before the optimizer steps.

Source: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks",
ECCV 2020, arXiv:2004.01461. The gradient of the loss alone is centralized; weight decay is the optimizer's, and comes
after.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buttress import Context, hookimpl


@dataclass(eq=False, kw_only=True)
class Centralize:
    """Gradient centralization of every weight that has an input dimension; biases and batch norm are left alone.

    Args:
        conv_only: centralize convolutions only, and leave linear layers alone.
    """

    hookspec = "1.0"

    conv_only: bool = False

    @hookimpl
    def adjust_grads(self, model: nn.Module, ctx: Context) -> None:
        smallest = 3 if self.conv_only else 2  # a linear weight is [out,in], a convolution's [out,in,*]
        grads = [p.grad for p in model.parameters() if p.grad is not None and p.dim() >= smallest]
        ctx.record("removed", centralize_(grads))


@torch.no_grad()
def centralize_(grads: Iterable[Tensor]) -> Tensor:
    """Subtract from each gradient ``[out,in,*]``, in place, its mean over all dimensions but the first.

    Returns: 0-dim, the L2 norm of all that was removed.
    """
    removed = torch.zeros(())
    for grad in grads:
        mean = grad.mean(tuple(range(1, grad.dim())), keepdim=True)
        grad -= mean
        removed = removed + mean.square().sum() * grad[0].numel()
    return removed.sqrt()
