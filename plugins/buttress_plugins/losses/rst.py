"""RST: robust self-training, TRADES on labelled and pseudo-labelled examples in every batch.

Source: Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled Data Improves Adversarial Robustness", arXiv:1905.13736;
its loss ``L_labelled + lambda L_unlabelled`` weighs the two sets by their shares of a batch, as in the public code,
which draws half of each batch from the unlabelled set: ``data.extra: {share: 1/2}``. Examples without any label count
in the divergence alone, and the cross-entropy is the mean over the labelled ones of the batch, as in that code. The
attack is that of TRADES, which asks for no label: ``pgd: {loss: kl, start: gaussian}``.

The cross-entropy and the divergence share one clean forward. The public code forwards the adversarial examples before
the clean ones, which batch norm's running statistics remember: ``adv_first``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.functional import cross_entropy, kl_divergence
from buttress.settings import NonNegative, PerEpoch

NEEDS_EXTRA = {"extra examples": "it learns from more examples than the labelled ones, and without them it is trades"}


@dataclass(eq=False, kw_only=True)
class RST:
    """``CE(f(x), y) + beta * KL(p(x) || p(x'))``, the cross-entropy over the labelled examples of the batch.

    ``batch.aux`` says which examples are extra ones (``extra``) and which have no label (``unlabelled``).

    Args:
        beta: weight of the divergence; 6 in the paper.
        unlabelled_weight: factor on the losses of the extra examples (lambda in the paper); 1 leaves their weight to
            their share of the batch, as in the public code.
        adv_first: whether the adversarial examples are forwarded before the clean ones, as in the public code.
    """

    needs = NEEDS_EXTRA
    takes = ("unlabelled examples",)

    beta: PerEpoch[NonNegative] = 6.0
    unlabelled_weight: PerEpoch[NonNegative] = 1.0
    adv_first: bool = False

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        if self.adv_first:
            adv_logits, logits = model(adv.x), model(batch.x)
        else:
            logits, adv_logits = model(batch.x), model(adv.x)
        divergence = kl_divergence(adv_logits, F.log_softmax(logits, 1))
        fit = cross_entropy(logits, batch.y)
        if (unlabelled := batch.aux.get("unlabelled")) is not None:
            fit = mean_over_labelled(fit, unlabelled, ctx.sum((~unlabelled).sum()), ctx.size(unlabelled))
        losses = fit + ctx.value(self.beta) * divergence
        return Loss(weighted(losses, batch.aux.get("extra"), ctx.value(self.unlabelled_weight)))


def mean_over_labelled(losses: Tensor, unlabelled: Tensor, labelled: Tensor, size: int) -> Tensor:
    """``losses [B]`` with 0 for the marked examples, scaled so that the mean over the batch is that of the others.

    Args:
        losses: ``[B]``.
        unlabelled: ``[B]`` bools.
        labelled: 0-dim number of examples of the batch with a label.
        size: number of all examples of the batch.
    """
    return losses.masked_fill(unlabelled, 0.0) * (size / labelled.clamp_min(1).to(losses.dtype))


def weighted(losses: Tensor, marked: Tensor | None, weight: float) -> Tensor:
    """``losses [B]``, those of the marked examples (``[B]`` bools) times ``weight``."""
    return losses if marked is None or weight == 1 else torch.where(marked, weight * losses, losses)
