"""Distillation from two teachers, again from its equation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .references import Reference, Step, plain

CE, STANDARD, ROBUST, TEMPERATURE = 0.3, 0.1, 0.6, 2.0


def soft_loss(t: Tensor, s: Tensor) -> Tensor:
    """-T^2 sum_k softmax(t / T)_k log softmax(s / T)_k of the logits of one example."""
    p, q = F.softmax(t / TEMPERATURE, 0), F.softmax(s / TEMPERATURE, 0)
    return -(TEMPERATURE**2) * (p * q.log()).sum()


def kd(teachers: dict[type[nn.Module], tuple[nn.Module, nn.Module]]) -> Step:
    """Two teachers for each kind of network, in eval mode, at x'."""

    def losses(ref: Reference, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
        standard, robust = teachers[type(ref.model)]
        with torch.no_grad():
            t1, t2 = standard.eval()(adv), robust.eval()(adv)
        z = ref.model(adv)
        each = [
            -CE * F.log_softmax(z[i], 0)[y[i]] + STANDARD * soft_loss(t1[i], z[i]) + ROBUST * soft_loss(t2[i], z[i])
            for i in range(len(y))
        ]
        return torch.stack(each)

    return plain(losses)
