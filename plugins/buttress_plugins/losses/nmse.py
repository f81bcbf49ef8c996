"""NMSE: cross-entropy, and clean and adversarial logits of one direction.

Source: Liu, Yang, He, Hopcroft, "Parameter Interpolation Adversarial Training for Robust Image Classification",
arXiv:2511.00836, eq. 12. The logits are compared after division by their L2 norm. Not legible in the sources,
and chosen here: the weight of an example is ``1 - p_y(x)`` at its clean input, as in MART; the squared difference is
summed over classes; mu = 4. The gradient flows through both directions and, unless detached, through the weight.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Loss, hookimpl
from buttress.functional import cross_entropy, label_probability
from buttress.settings import NonNegative, PerEpoch

# Guards the division of logits that are all zero by their norm.
TINY = 1e-12


@dataclass(eq=False, kw_only=True)
class NMSE:
    """``CE(z(x'), y) + mu * (1 - p_y(x)) * ||z(x')/||z(x')|| - z(x)/||z(x)|| ||^2``.

    Args:
        mu: weight of the second term.
        detach_weight: whether to cut the gradient through ``1 - p_y(x)``.
    """

    mu: PerEpoch[NonNegative] = 4.0
    detach_weight: bool = False

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        logits, adv_logits = model(batch.x), model(adv.x)
        weight = 1 - label_probability(logits, batch.y)
        if self.detach_weight:
            weight = weight.detach()
        turn = nmse(logits, adv_logits)
        return Loss(cross_entropy(adv_logits, batch.y) + ctx.value(self.mu) * weight * turn)


def nmse(logits: Tensor, adv_logits: Tensor) -> Tensor:
    """``[B]`` squared distances of the directions of two ``[B,K]`` logits: ``2 (1 - cos)``."""
    directions = (F.normalize(each, dim=1, eps=TINY) for each in (adv_logits, logits))
    return (next(directions) - next(directions)).square().sum(1)
