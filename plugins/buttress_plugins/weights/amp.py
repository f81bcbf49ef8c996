"""AMP: the loss is minimised at the worst weights in a ball around the current ones.

Sources: Yan, Xu, Zhang, Li, Xie, "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss
Landscape", 2022 (AT-AMP), Algorithm 1; Zheng, Zhang, Mao, "Regularizing Neural Networks via Adversarial Model
Perturbation", arXiv:2010.04925.

The ball is the paper's: one radius for the concatenation of all parameters. The public code of AMP clips each tensor to
the radius on its own: ``ball: per_tensor``. The first inner iteration uses the attack that the step has made anyway, at
unperturbed weights; each further one attacks again, at the perturbed weights. The loss uses the last adversarial
examples (``reattack_final`` makes new ones at the final perturbation, another reading of Algorithm 1). Running
statistics of batch norm move in the final forward only (``bn_update: all`` is the public code's). The perturbation is
taken back before the optimizer's step, so momentum and weight decay see the weights themselves.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from torch import nn

from buttress import Adv, Ascent, Context, ExitOrder, Objective, hookimpl
from buttress.kernels import Ball, amp_first_step_, amp_step_
from buttress.nn import Scratch, trainable
from buttress.settings import Epoch, NonNegative, PerEpoch, Times


@dataclass(eq=False, kw_only=True)
class AMP:
    """Adversarial model perturbation: ``Delta`` in an L2 ball of radius ``delta`` around the weights.

    Args:
        delta: radius of the ball; 0 is PGD-AT.
        ball: ball around all parameters together (``global``), or around each on its own (``per_tensor``, the public
            code).
        steps: number of inner iterations N; each costs an attack (the first one's is the step's own) and a backward.
        xi: step size: ``Delta + xi * gradient``.
        reattack_final: whether to attack once more at the final perturbation.
        clip_norm: largest L2 norm of an inner gradient (50 in the public code); null: none.
        bn_update: forwards that move batch norm's running statistics: the ``final`` one, or ``all``.
        start: first epoch with a perturbation: 0-based epoch, or a fraction of the epochs in (0, 1).
        ascent: gradient on several processes: that of the mean over all examples of the step (``global``, as in one
            process), or each process's own, without a collective (``local``).
    """

    exit_order: ClassVar[ExitOrder] = "restore_then_step"

    delta: PerEpoch[NonNegative] = 0.1
    ball: Ball = "global"
    steps: Times = 1
    xi: Annotated[float, Gt(0)] = 1.0
    reattack_final: bool = False
    clip_norm: Annotated[float, Gt(0)] | None = None
    bn_update: Literal["final", "all"] = "final"
    start: Epoch = 0
    ascent: Ascent = "global"

    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)
    _origin: Scratch = field(init=False, repr=False, default_factory=Scratch)
    _moved: Scratch = field(init=False, repr=False, default_factory=Scratch)

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._weights = trainable(model)

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> AbstractContextManager[Adv] | None:
        delta = ctx.value(self.delta)
        if delta == 0 or ctx.epoch < ctx.resolve_epoch(self.start):
            return None
        return self._perturbed(adv, objective, delta, ctx)

    @contextmanager
    def _perturbed(self, adv: Adv, objective: Objective, delta: float, ctx: Context) -> Iterator[Adv]:
        weights = self._weights
        origin, moved = self._origin.like(weights), self._moved.like(weights)
        for iteration in range(self.steps):
            if iteration > 0:
                adv = objective.attack()
            loss = objective(adv, update_bn=self.bn_update == "all").mean()
            step_ = amp_first_step_ if iteration == 0 else amp_step_
            length = step_(
                weights,
                objective.grads(loss, weights, ascent=self.ascent),
                origin,
                moved,
                xi=self.xi,
                delta=delta,
                ball=self.ball,
                clip_norm=self.clip_norm,
            )
        ctx.record("norm", length)
        yield objective.attack() if self.reattack_final else adv
