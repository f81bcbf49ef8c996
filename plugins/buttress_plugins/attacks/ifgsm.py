"""I-FGSM: several small signed gradient steps from the input itself; also called BIM, the basic iterative method.

Source: Kurakin et al., "Adversarial examples in the physical world", arXiv:1607.02533. The default step, eps over the
number of steps, is that of Dong et al., arXiv:1710.06081; the original has steps of 1/255. Under an L2 threat model the
steps follow the normalised gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge
from torch import nn

from buttress import (
    Adv,
    AttackLossChoice,
    Batch,
    Context,
    EarlyStop,
    LoadedAttackLoss,
    hookimpl,
    load_attack_loss,
)
from buttress.functional import pgd
from buttress.settings import NonNegativeFraction


@dataclass(eq=False, kw_only=True)
class IFGSM:
    """Iterative fast gradient sign method. It has no random start and draws nothing.

    Args:
        steps: number of gradient steps.
        step_size: length of a step in units of the input; default eps / steps.
        loss: loss that the steps maximise: ``ce``, ``margin``, or another attack loss by name.
        early_stop: whether an example is finished at the first point where the model errs on it: its answer is that
            point, and in an evaluation it leaves the batch.
    """

    steps: Annotated[int, Ge(1)] = 10
    step_size: NonNegativeFraction | None = None
    loss: AttackLossChoice = "ce"
    early_stop: bool = False

    refuses: Mapping[str, str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss)
        self.refuses = {**EarlyStop.refuses, **self._loss.refuses} if self.early_stop else self._loss.refuses
        self._loss.expect_gradient_at_x()

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        step_size = ctx.threat.eps / self.steps if self.step_size is None else self.step_size
        stop = EarlyStop(self.early_stop, model, batch, ctx)
        loss = stop.loss(lambda model, batch, _: self._loss(model, batch, ctx))
        return Adv(stop.answer(pgd(loss, batch.x, ctx.threat, steps=self.steps, step_size=step_size)))
