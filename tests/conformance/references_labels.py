"""Methods that change the labels, again from their equations: see ``references.py``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import ALPHA, EPS, STEPS, Reference, Step


def smoothed(epsilon: float) -> Step:
    """(1 - epsilon) CE(., y) + epsilon times the mean of -log p_k over all k, in attack and training."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return (1 - epsilon) * F.cross_entropy(z, y, reduction="none") - epsilon * F.log_softmax(z, 1).mean(1)

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        ref.model.eval()
        adv = x + start
        for _ in range(STEPS):
            adv = adv.detach().requires_grad_()
            (g,) = torch.autograd.grad(loss(ref.model(adv), y).sum(), adv)
            adv = (adv + ALPHA * g.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
        ref.model.train()
        ref.sgd(ref.grads(loss(ref.model(adv.detach()), y).mean()))

    return step
