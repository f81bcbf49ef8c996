"""Drop easy examples: those whose loss is small leave the training loss.

Source: Yu, Han, Gong, Shen, Ge, Du, Liu, "Robust Weight Perturbation for Adversarial Training", arXiv:2205.14826,
appendix: removing the adversarial examples with small loss, the counterpart of perturbing weights to lift them. Whether
the paper divides by the examples that are left or by the whole batch is not known: ``mean_over``.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from buttress import Context, Loss, hookimpl


@dataclass(eq=False, kw_only=True)
class DropEasy:
    """Wraps the training loss and drops the examples whose loss is below ``c_min``; records the share removed.

    Args:
        c_min: examples with a smaller loss (nats) are removed; RWP's values are 1.7 for CIFAR-10, 2.2 SVHN, 4.0
            CIFAR-100.
        mean_over: examples that the mean is taken over: the ``kept`` ones, or the whole ``batch``.
    """

    takes = ("unlabelled examples",)

    c_min: Annotated[float, Ge(0)] = 1.7
    mean_over: Literal["kept", "batch"] = "kept"

    @hookimpl(wrapper=True)
    def compute_loss(self, ctx: Context) -> Generator[None, Loss, Loss]:
        loss = yield
        hard = loss.per_example >= self.c_min
        kept, size = ctx.sum(hard.sum()), ctx.size(hard)
        if ctx.phase == "train":
            ctx.record("removed", 1 - kept / size)
        return Loss(drop(loss.per_example, hard, kept, size, self.mean_over), loss.penalty)


def drop(losses: Tensor, hard: Tensor, kept: Tensor, size: int, mean_over: str) -> Tensor:
    """``losses [B]`` with 0 in the place of those that are not ``hard`` (``[B]`` bools).

    With ``mean_over = "kept"`` the rest is scaled by ``size``, the number of losses, over the 0-dim number ``kept``, so
    that the mean over all losses is that of the kept ones.
    """
    dropped = torch.where(hard, losses, 0.0)
    if mean_over == "kept":
        dropped = dropped * (size / kept.clamp_min(1).to(losses.dtype))
    return dropped
