"""AMP: the loss is minimised at the worst weights in a ball around the current ones.

Sources: Yan, Xu, Zhang, Li, Xie, "Adversarial Training with Adversarial Model Perturbation" (AT-AMP), Algorithm 1;
Zheng, Zhang, Mao, "Regularizing Neural Networks via Adversarial Model Perturbation", arXiv:2010.04925.

The ball is the paper's: one radius for the concatenation of all parameters. The public code of AMP clips each tensor to
the radius on its own: ``ball: per_tensor``. The first inner iteration uses the attack that the step has made anyway, at
unperturbed weights; each further one attacks again, at the perturbed weights. The loss uses the last adversarial
examples (``reattack_final`` makes new ones at the final perturbation, another reading of Algorithm 1). Running
statistics of batch norm move in the final forward only (``bn_update: all`` is the public code's). The perturbation is
taken back before the optimizer's step, so momentum and weight decay see the weights themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from buttress import Adv, hookimpl
from buttress.context import Context
from buttress.perturbation import ExitOrder, Objective
from buttress.settings import Epoch
from buttress.weights import gradients, trainable

Ball = Literal["global", "per_tensor"]


class AMP:
    """Adversarial model perturbation: ``Delta`` in an L2 ball of radius ``delta`` around the weights.

    Args:
        delta: radius of the ball; 0 is PGD-AT.
        ball: ``global``: of all parameters together; ``per_tensor``: of each on its own (the public code).
        steps: inner iterations N; each costs an attack (the first one's is the step's own) and a backward.
        xi: step size: ``Delta + xi * gradient``.
        reattack_final: attack once more at the final perturbation.
        clip_norm: largest L2 norm of an inner gradient (50 in the public code); null: none.
        bn_update: forwards that move batch norm's running statistics: the ``final`` one, or ``all``.
        start: first epoch with a perturbation: 0-based epoch, or a fraction of the epochs in (0, 1).
    """

    exit_order: ExitOrder = "restore_then_step"

    def __init__(
        self,
        *,
        delta: Annotated[float, Ge(0)] = 0.1,
        ball: Ball = "global",
        steps: Annotated[int, Ge(1)] = 1,
        xi: Annotated[float, Gt(0)] = 1.0,
        reattack_final: bool = False,
        clip_norm: Annotated[float, Gt(0)] | None = None,
        bn_update: Literal["final", "all"] = "final",
        start: Epoch = 0,
    ) -> None:
        self.delta, self.ball, self.steps, self.xi = delta, ball, steps, xi
        self.reattack_final, self.clip_norm, self.bn_update, self.start = reattack_final, clip_norm, bn_update, start
        self._weights: list[nn.Parameter] = []

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._weights = trainable(model)

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> AbstractContextManager[Adv] | None:
        if self.delta == 0 or ctx.epoch < ctx.resolve_epoch(self.start):
            return None
        return self._perturbed(adv, objective, ctx)

    @contextmanager
    def _perturbed(self, adv: Adv, objective: Objective, ctx: Context) -> Iterator[Adv]:
        weights = self._weights
        origin = [weight.detach().clone() for weight in weights]
        moved = [torch.zeros_like(weight) for weight in origin]
        for iteration in range(self.steps):
            if iteration > 0:
                adv = ctx.attack()
            loss = objective(adv, update_bn=self.bn_update == "all").mean()
            ascent = clipped(gradients(loss, weights, ctx), self.clip_norm)
            moved = project(torch._foreach_add(moved, ascent, alpha=self.xi), self.delta, self.ball)
            with torch.no_grad():
                torch._foreach_copy_(weights, torch._foreach_add(origin, moved))
        ctx.record("norm", length(moved))
        yield ctx.attack() if self.reattack_final else adv


def length(tensors: Sequence[Tensor]) -> Tensor:
    """The 0-dim L2 norm of all tensors together, in float32 or wider."""
    wide = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors), dtype=wide)))


def clipped(gradient: list[Tensor], clip_norm: float | None) -> list[Tensor]:
    """``gradient`` scaled to a norm of at most ``clip_norm``; zero where it is not finite: no perturbation then."""
    norm = length(gradient)
    scale = torch.ones_like(norm) if clip_norm is None else (clip_norm / norm).clamp_max(1.0)
    finite = torch.isfinite(norm)
    return [torch.where(finite, g * scale.to(g.dtype), 0.0) for g in gradient]


def project(moved: Sequence[Tensor], delta: float, ball: Ball) -> list[Tensor]:
    """``moved`` inside the ball of radius ``delta``; what is inside stays as it is. No host decision."""
    lengths = [length(moved)] * len(moved) if ball == "global" else [length([each]) for each in moved]
    return [each * (delta / norm).clamp_max(1.0).to(each.dtype) for each, norm in zip(moved, lengths, strict=True)]
