"""Clip: the gradient is scaled down to a norm, or its elements are clamped, before the optimizer's step.

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training Recurrent Neural Networks", arXiv:1211.5063,
section 3.2, algorithm 1: by the norm of all gradients together. The arithmetic is that of ``torch.nn.utils``: the norm
plus 1e-6 is the divisor, and nothing waits for the device. Of the methods here, the public code of ARD and PRM
(arXiv:2210.07540) trains vision transformers with ``norm: 1.0``.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import nn

from buttress import Context, hookimpl
from buttress.nn import trainable


@dataclass(eq=False, kw_only=True)
class ClipGrad:
    """Gradient clipping; records the norm before it.

    Args:
        norm: largest L2 norm of all gradients together; null: no such limit.
        value: largest magnitude of an element of a gradient, clamped before the norm is taken; null: no such limit.
    """

    norm: Annotated[float, Gt(0)] | None = 1.0
    value: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if self.norm is None and self.value is None:
            raise ValueError(
                "with norm: null and value: null nothing is clipped; give one of them, or leave the plugin out"
            )

    @hookimpl
    def adjust_grads(self, model: nn.Module, ctx: Context) -> None:
        weights = trainable(model)
        if self.value is not None:
            nn.utils.clip_grad_value_(weights, self.value)
        if self.norm is not None:
            ctx.record("norm", nn.utils.clip_grad_norm_(weights, self.norm))
