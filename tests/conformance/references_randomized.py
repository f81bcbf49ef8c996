"""The literal form of randomized adversarial training, with the gradients that its public code takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .references import Reference, Step

ALPHA, BETA = 0.2, 6.0


def convolution_weights(model: nn.Module) -> list[Tensor]:
    return [weight for module in model.modules() if isinstance(module, nn.Conv2d) for weight in module.parameters()]


def soft_matrix(gap: Tensor, share: float) -> Tensor:
    """Row by row: the gap without its minimum, the class itself left out, scaled to ``share``."""
    classes = len(gap)
    vector = (gap - gap.min()) / (gap - gap.min()).sum()
    matrix = torch.zeros(classes, classes, dtype=gap.dtype)
    for own in range(classes):
        others = [k for k in range(classes) if k != own]
        total = sum(vector[k] for k in others)
        for k in others:
            matrix[own, k] = share * vector[k] / total
        matrix[own, own] = 1 - share
    return matrix


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """``[B]`` KL(target || softmax(logits))."""
    return (target * (target.log() - F.log_softmax(logits, 1))).sum(1)


def losses(ref: Reference, x: Tensor, adv: Tensor, y: Tensor, intended: bool = False, apart: bool = False) -> Tensor:
    """``apart``: a forward for each term, as the public code has them, two of them for the gradients alone."""

    def again(at: Tensor, before: Tensor) -> Tensor:
        return ref.model(at) if apart else before

    z, z_adv = ref.model(x), ref.model(adv)
    (head,) = [module for module in ref.model.modules() if isinstance(module, nn.Linear)][-1:]
    rows = [
        torch.autograd.grad(F.cross_entropy(logits, y), head.weight, retain_graph=True)[0].sum(1)
        for logits in (z, z_adv)
    ]
    t1, t1_adv, t2, t2_adv = rows[0].abs(), rows[1].abs(), rows[0] ** 2, rows[1] ** 2
    share = 1 - 2 / z.shape[1]
    y1, y2 = soft_matrix(t1 - t1_adv, share)[y], soft_matrix(t1_adv - t1, share)[y]
    y4 = soft_matrix(t2_adv - t2, share)[y]
    y3 = soft_matrix(t2 - t2_adv, share)[y] if intended else y4
    log_q = F.log_softmax(again(adv, z_adv), 1)
    p = F.softmax(again(x, z), 1)
    kl = (p * (p.log() - log_q)).sum(1)
    first = 0.5 * divergence(y1, again(adv, z_adv)) + 0.5 * divergence(y2, again(x, z))
    second = 0.5 * divergence(y3, again(adv, z_adv)) + 0.5 * divergence(y4, again(x, z))
    return (1 - ALPHA) * F.cross_entropy(z, y, reduction="none") + BETA * kl + ALPHA * first + 0.5 * ALPHA * second


def randomized_at(noise: Tensor | None = None, intended: bool = False, apart: bool = False) -> Step:
    """The attack sees convolutions moved by ``noise``, one number for each of their weights; the loss does not."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        weights = convolution_weights(ref.model)
        before = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            if noise is not None:
                for weight, part in zip(weights, noise.split([w.numel() for w in weights]), strict=True):
                    weight += part.view_as(weight)
        adv = ref.attack(x, y, start, "kl")
        with torch.no_grad():
            for weight, own in zip(weights, before, strict=True):
                weight.copy_(own)
        ref.sgd(ref.grads(losses(ref, x, adv, y, intended, apart).mean()))

    return step
