"""RWP: weights are perturbed only as far as needed to lift the loss of easy adversarial examples.

Source: Yu, Han, Gong, Shen, Ge, Du, Liu, "Robust Weight Perturbation for Adversarial Training", IJCAI 2022,
arXiv:2205.14826, Algorithm 1 and eq. 9: K2 steps of ascent on the losses of the examples that satisfy the
loss-stationary condition (LSC) ``loss <= c_min`` at the weights perturbed so far.

The public code differs, as ``variant: official``: the sum of raw gradients is kept and only a scaled copy of it is
added to the weights (the paper's next gradient is added to the scaled sum, which weighs the past far more), and
``<`` takes the place of ``<=``. Both have one norm for all tensors together, as the paper's constraint has no layer in
it. The masked loss is averaged over the whole batch in both (eq. 9). Where no example satisfies the condition any more
the perturbation stays as it is; on the CPU the remaining steps are then left out, on a GPU they run and change nothing,
because asking would make the host wait.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from buttress import Adv, Ascent, Context, ExitOrder, Objective, hookimpl
from buttress.kernels import rwp_first_step_, rwp_step_
from buttress.nn import Scratch, matrices
from buttress.settings import Epoch, NonNegative, NonNegativeOrInf, PerEpoch, Times, expect_fitting_ascent

NO_MIXED_INPUTS = {"mixed inputs": "the public code of AWP refuses Mixup, and nobody has measured the two together"}


@dataclass(eq=False, kw_only=True)
class RWP:
    """Robust weight perturbation under the loss-stationary condition.

    Args:
        gamma: size of the perturbation relative to the weights'; 0 switches it off. 0.005 with TRADES.
        c_min: examples whose loss is at most this are lifted: 1.7 for CIFAR-10, 2.2 SVHN, 4.0 CIFAR-100 (nats); 0 is
            PGD-AT; inf lifts all.
        k2: number of steps of ascent.
        variant: ``paper`` (Algorithm 1), or ``official`` (the public code): sets ``inclusive`` and ``accumulate``.
        norm: ``global``: one for all tensors together; ``layer``: each its own.
        inclusive: whether a loss equal to ``c_min`` satisfies the condition; null: as the variant.
        accumulate: the next gradient is added to the ``rescaled`` perturbation or to the ``raw`` sum; null: as the
            variant.
        start: first epoch with a perturbation: 0-based epoch, or a fraction of the epochs in (0, 1).
        exit_order: ``step_while_perturbed`` (Algorithm 1), or ``restore_then_step``.
        ascent: gradient on several processes: that of the mean over all examples of the step (``global``, as in one
            process), or each process's own, without a collective (``local``, with ``restore_then_step``).
    """

    refuses = NO_MIXED_INPUTS

    gamma: PerEpoch[NonNegative] = 0.01
    c_min: NonNegativeOrInf = 1.7
    k2: Times = 10
    variant: Literal["paper", "official"] = "paper"
    norm: Literal["global", "layer"] = "global"
    inclusive: bool | None = None
    accumulate: Literal["rescaled", "raw"] | None = None
    start: Epoch = 0
    exit_order: ExitOrder = "step_while_perturbed"
    ascent: Ascent = "global"

    _inclusive: bool = field(init=False, repr=False)
    _rescale: bool = field(init=False, repr=False)
    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)
    _origin: Scratch = field(init=False, repr=False, default_factory=Scratch)
    _total: Scratch = field(init=False, repr=False, default_factory=Scratch)

    def __post_init__(self) -> None:
        expect_fitting_ascent(self.ascent, self.exit_order)
        self._inclusive = self.variant == "paper" if self.inclusive is None else self.inclusive
        self._rescale = (self.accumulate or ("rescaled" if self.variant == "paper" else "raw")) == "rescaled"

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._weights = matrices(model)

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> AbstractContextManager[None] | None:
        gamma = ctx.value(self.gamma)
        if gamma == 0 or not self._weights or ctx.epoch < ctx.resolve_epoch(self.start):
            return None
        return self._perturbed(adv, objective, gamma, ctx)

    @contextmanager
    def _perturbed(self, adv: Adv, objective: Objective, gamma: float, ctx: Context) -> Iterator[None]:
        weights = self._weights
        origin, total = self._origin.like(weights), self._total.like(weights)
        state = torch.empty((2, len(weights)), dtype=torch.float64, device=weights[0].device)
        for step in range(self.k2):
            loss, kept = objective.masked(adv, self.c_min, inclusive=self._inclusive, ascent=self.ascent)
            if step == 0:
                ctx.record("easy", kept / (len(adv.x) if self.ascent == "local" else ctx.size(adv.x)))
            if ctx.device.type == "cpu" and not kept:
                break
            lists = weights, objective.grads(loss, weights, ascent=self.ascent), origin, total
            if step == 0:
                rwp_first_step_(*lists, state, gamma, norm=self.norm, kept=kept)
            else:
                rwp_step_(*lists, state, gamma, norm=self.norm, rescale=self._rescale, kept=kept)
        yield
