"""Consistency regularisation again, literally: both views in one batch, and the divergence between them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import EPS, Losses, Reference, Step, at


def consistency(corners: Tensor, size: int, lam: float = 1.0, t: float = 0.5, losses: Losses = at) -> Step:
    """FGSM on two views, each with a blank square; L = mean of 2B losses + lam JS, at temperature t."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        views, labels = x.repeat(2, 1, 1, 1), y.repeat(2)
        for image, (top, left) in zip(views, corners.tolist(), strict=True):
            image[:, top : top + size, left : left + size] = 0
        ref.model.eval()
        views.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(ref.model(views), labels, reduction="sum"), views)
        ref.model.train()
        views = views.detach()
        adv = (views + EPS * g.sign()).clamp(0, 1)
        with ref.statistics_kept():  # the loss moves them, with the same forward
            p, q = F.softmax(ref.model(adv) / t, 1).chunk(2)
            m = (0.5 * (p + q)).clamp(min=1e-8)
            js = 0.5 * (p * (p / m).log()).sum(1) + 0.5 * (q * (q / m).log()).sum(1)
            pull = ref.grads(js.mean())
        own = ref.grads(losses(ref, views, adv, labels).mean())
        ref.sgd({name: own[name] + lam * pull[name] for name in own})

    return step
