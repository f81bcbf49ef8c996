"""AWP: the loss is taken at the worst weights of one step, each layer moved by a share of its own norm.

Source: Wu, Xia, Wang, "Adversarial Weight Perturbation Helps Robust Generalization", arXiv:2004.05884.
As in the public code: tensors with more than one dimension and ``weight`` in their name (convolutions, shortcuts, the
classifier; no batch norm, no bias), the same adversarial examples throughout, and the optimizer's step while the
weights are perturbed, so that weight decay sees ``w + v``. Different from it: the gradient is taken at the weights
themselves and not as a difference of a stepped proxy's weights, which cancels in float32.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Len
from torch import nn

from buttress import Adv, Ascent, Context, ExitOrder, Objective, hookimpl
from buttress.kernels import perturb_
from buttress.nn import matrices, trainable
from buttress.settings import Epoch, NonNegative, PerEpoch, expect_fitting_ascent

NO_MIXED_INPUTS = {"mixed inputs": "the public code of AWP refuses Mixup, and nobody has measured the two together"}


@dataclass(eq=False, kw_only=True)
class AWP:
    """Adversarial weight perturbation: ``v_j = gamma * ||w_j|| / ||g_j|| * g_j`` with g the gradient of the loss.

    Args:
        gamma: size of the perturbation, relative to the weights'; 0 switches it off. 0.005 with TRADES.
        start: first epoch with a perturbation: 0-based epoch, or a fraction of the epochs in (0, 1).
        tensors: ``matrices`` (more than one dimension, ``weight`` in the name), or ``all`` trainable parameters.
        norm: ``layer``: each tensor has its own norms; ``global``: all together have one.
        lsc: [p, q]: only examples with losses in it shape the perturbation (RWP paper, section 3.2).
        exit_order: ``step_while_perturbed`` (the public code), or ``restore_then_step``.
        ascent: gradient on several processes: that of the mean over all examples of the step (``global``, as in one
            process), or each process's own, without a collective (``local``, with ``restore_then_step``).
    """

    refuses = NO_MIXED_INPUTS

    gamma: PerEpoch[NonNegative] = 0.01
    start: Epoch = 0
    tensors: Literal["matrices", "all"] = "matrices"
    norm: Literal["layer", "global"] = "layer"
    lsc: Annotated[list[NonNegative], Len(2, 2)] | None = None
    exit_order: ExitOrder = "step_while_perturbed"
    ascent: Ascent = "global"

    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        expect_fitting_ascent(self.ascent, self.exit_order)
        if self.lsc is not None and self.lsc[0] > self.lsc[1]:
            raise ValueError(f"lsc: expected [p, q] with p <= q, got {self.lsc}")

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        self._weights = matrices(model) if self.tensors == "matrices" else trainable(model)

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> AbstractContextManager[None] | None:
        gamma = ctx.value(self.gamma)
        if gamma == 0 or ctx.epoch < ctx.resolve_epoch(self.start):
            return None
        return self._perturbed(adv, objective, gamma)

    @contextmanager
    def _perturbed(self, adv: Adv, objective: Objective, gamma: float) -> Iterator[None]:
        losses = objective(adv)
        if self.lsc is not None:
            losses = losses * ((losses >= self.lsc[0]) & (losses <= self.lsc[1]))
        grads = objective.grads(losses.mean(), self._weights, ascent=self.ascent)
        perturb_(self._weights, grads, gamma, norm=self.norm)
        yield
