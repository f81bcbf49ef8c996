"""Take an optimizer's step; where torch fuses it, meet first what the fused forms presume and do not check.

On the CPU they walk through a weight, its gradient and its state as memory of one layout, whatever the strides say. A
fused SGD cannot begin the momentum of one weight after that of another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def take_step(optimizer: Optimizer) -> None:
    """``optimizer.step()`` with the numbers that its plain form has, up to rounding.

    Groups that cannot be fused in this step take it in their plain form.
    """
    groups = [group for group in optimizer.param_groups if group.get("fused")]
    plain = [group for group in groups if not _is_ready(optimizer, group)]
    for group in plain:
        group["fused"] = False
    try:
        optimizer.step()
    finally:
        for group in plain:
            group["fused"] = True


@torch.no_grad()
def _is_ready(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether a group can be fused, now that its gradients and its state have the layouts of the weights."""
    is_laid_out, begun = True, set[bool]()
    for weight in group["params"]:
        if weight.grad is None:
            continue
        if weight.grad.stride() != weight.stride():
            weight.grad = _laid_out_like(weight, weight.grad)
            is_laid_out &= weight.grad.stride() == weight.stride()  # never where elements of the weight lie apart
        state = optimizer.state.get(weight, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = _laid_out_like(weight, value)
        begun.add(state.get("momentum_buffer") is not None)
    return is_laid_out and len(begun) < 2


def _laid_out_like(weight: Tensor, tensor: Tensor) -> Tensor:
    return torch.empty_like(weight, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
