"""Consistency regularisation: two augmentations of every image, and predictions under attack that agree on them.

Source: Tack, Yu, Jeong, Kim, Hwang, Shin, "Consistency Regularization for Adversarial Robustness", arXiv:2103.04623:
``L = L_AT over both views + lam JS(softmax(z'_1 / T), softmax(z'_2 / T))``, with the constants of its public code (the
average of the two predictions is at least 1e-8). The gradient flows through both predictions. Both views stand in one
batch, so that they share the statistics of batch norm, and the attack sees each on its own.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.settings import NonNegative, PerEpoch

SMALLEST = 1e-8
VIEW = "view"


@dataclass(eq=False, kw_only=True)
class Consistency:
    """Twice the batch, one view after the other, and ``lam`` times the Jensen-Shannon divergence between the views.

    The transforms that are listed after it draw for each view anew: they make the two augmentations. Those before it
    make what both views have in common. Where the loss has not forwarded the adversarial examples at once, it does.
    ``batch.aux["view"]`` (``[2B]``, 0 or 1) tells the views apart; without it, in a batch that no transform made, the
    divergence is left out.

    Args:
        lam: weight of the divergence.
        temperature: temperature T, by which the logits are divided.
        term: place of the divergence in the loss: ``per_example`` is seen by whatever looks at the losses of examples
            (weight perturbations, ``drop_easy``), ``penalty`` is a term of the whole batch. The mean is the same.
    """

    gives = ("two views",)
    takes = ("unlabelled examples",)

    lam: PerEpoch[NonNegative] = 1.0
    temperature: Annotated[float, Gt(0)] = 0.5
    term: Literal["per_example", "penalty"] = "per_example"

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        aux = {name: twice(value) for name, value in batch.aux.items()}
        aux[VIEW] = torch.arange(2, device=batch.x.device).repeat_interleave(len(batch.x))
        index = None if batch.index is None else twice(batch.index)
        return Batch(twice(batch.x), twice(batch.y), index, aux)

    @hookimpl(wrapper=True)
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Generator[None, Loss, Loss]:
        loss = yield
        if VIEW not in batch.aux:
            return loss
        logits = ctx.outputs(adv.x)
        one, other = (model(adv.x) if logits is None else logits).chunk(2)
        divergence = ctx.value(self.lam) * jensen_shannon(one, other, self.temperature)
        if ctx.phase == "train":
            ctx.record("divergence", divergence.mean())
        if self.term == "per_example":
            return Loss(loss.per_example + twice(divergence), loss.penalty)
        penalty = divergence.mean()
        return Loss(loss.per_example, penalty if loss.penalty is None else loss.penalty + penalty)


def twice(values: Tensor) -> Tensor:
    """``[2B,*]``: all of ``values [B,*]``, and once more."""
    return torch.cat([values, values])


def jensen_shannon(logits: Tensor, others: Tensor, temperature: float = 1.0) -> Tensor:
    """``[B]`` divergences in nats between the predictions of logits ``[B,K]``, each divided by ``temperature``."""
    log_p, log_q = F.log_softmax(logits / temperature, 1), F.log_softmax(others / temperature, 1)
    log_mean = (torch.logaddexp(log_p, log_q) - math.log(2)).clamp(min=math.log(SMALLEST))
    to_mean = [F.kl_div(log_mean, each, reduction="none", log_target=True).sum(1) for each in (log_p, log_q)]
    return 0.5 * (to_mean[0] + to_mean[1])
