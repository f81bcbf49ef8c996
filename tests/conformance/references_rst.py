"""RST again, literally from its equation: ``L = L_labelled + lambda L_unlabelled`` with the shares of one batch."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import Reference, Step, plain

EXTRA = torch.tensor([False, False, False, True, True, True])
UNLABELLED = torch.tensor([False, False, False, False, True, True])
ALL_LABELLED = torch.zeros(6, dtype=torch.bool)


def losses(
    ref: Reference, x: Tensor, adv: Tensor, y: Tensor, beta: float, lam: float, unlabelled: Tensor, adv_first: bool
) -> Tensor:
    """w_i [CE_i B / B_labelled where there is a label, + beta KL(p_i || p'_i)], w_i = lambda for an extra example."""
    first, second = (ref.model(each) for each in ((adv, x) if adv_first else (x, adv)))
    z, z_adv = (second, first) if adv_first else (first, second)
    labelled, each = len(y) - int(unlabelled.sum()), []
    for i in range(len(y)):
        p, q = F.softmax(z[i], 0), F.softmax(z_adv[i], 0)
        loss = beta * (p * (p.log() - q.log())).sum()
        if not unlabelled[i]:
            loss = loss - p[y[i]].log() * len(y) / labelled
        each.append(lam * loss if EXTRA[i] else loss)
    return torch.stack(each)


def rst(beta: float = 6.0, lam: float = 1.0, unlabelled: Tensor = UNLABELLED, adv_first: bool = False) -> Step:
    return plain(partial(losses, beta=beta, lam=lam, unlabelled=unlabelled, adv_first=adv_first), "kl")
