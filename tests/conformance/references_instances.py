"""Methods that treat each example in its own way, again from their equations: see ``references.py``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import ALPHA, EPS, STEPS, Reference, Step, at

Attacked = tuple[Tensor, list[int]]
"""Adversarial examples, and a count of steps for each."""


def ascend(ref: Reference, x: Tensor, y: Tensor, adv: Tensor, loss: str) -> tuple[bool, Tensor]:
    """Whether the model is right on one iterate, and the sign of the gradient there; all of one example."""
    p = F.softmax(ref.model(x), 1).detach()
    adv = adv.detach().requires_grad_()
    z = ref.model(adv)
    value = F.cross_entropy(z, y) if loss == "ce" else (p * (p.log() - F.log_softmax(z, 1))).sum()
    (g,) = torch.autograd.grad(value, adv)
    return int(z.argmax()) == int(y), g.sign()


def early_stopped(
    ref: Reference, x: Tensor, y: Tensor, start: Tensor, noise: Tensor, tau: int, omega: float, loss: str
) -> Attacked:
    """FAT, algorithm 1, one example after the other: stop where the model errs and tau steps are used up."""
    ref.model.eval()
    attacked, taken = [], []
    for i in range(len(x)):
        clean, label = x[i : i + 1], y[i : i + 1]
        adv = (clean + start[i]).clamp(clean - EPS, clean + EPS).clamp(0, 1)
        patience, steps = tau, 0
        for k in range(STEPS):
            right, sign = ascend(ref, clean, label, adv, loss)
            if not right:
                if patience == 0:
                    break
                patience -= 1
            adv = (adv + ALPHA * sign + omega * noise[k, i]).clamp(clean - EPS, clean + EPS).clamp(0, 1)
            steps += 1
        attacked.append(adv)
        taken.append(steps)
    ref.model.train()
    return torch.cat(attacked), taken


def fat(noise: Tensor, tau: int = 0, omega: float = 0.0, losses=at, loss: str = "ce") -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv, _ = early_stopped(ref, x, y, start, noise, tau, omega, loss)
        ref.sgd(ref.grads(losses(ref, x, adv, y).mean()))

    return step


def counted(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> Attacked:
    """PGD one example after the other, and the number of iterates before a step that are classified correctly."""
    ref.model.eval()
    attacked, kappa = [], []
    for i in range(len(x)):
        clean, label = x[i : i + 1], y[i : i + 1]
        adv, right_ones = clean + start[i], 0
        for _ in range(STEPS):
            right, sign = ascend(ref, clean, label, adv, "ce")
            right_ones += right
            adv = (adv + ALPHA * sign).clamp(clean - EPS, clean + EPS).clamp(0, 1)
        attacked.append(adv)
        kappa.append(right_ones)
    ref.model.train()
    return torch.cat(attacked), kappa


def geometry(kappa: int, steps: int, weighting: str, lam: float, half: float) -> float:
    """GAIRAT, equations 5 and 6, before the normalisation."""
    u = lam + 5 * (half - kappa) / half
    if weighting == "tanh":
        return (1 + math.tanh(u)) / 2
    return 1 / (1 + math.exp(-u)) if weighting == "sigmoid" else 1 - kappa / (steps + 1)


def gairat(weighting: str, lam: float = -1.0, half: float = STEPS / 2) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv, kappa = counted(ref, x, y, start)
        weights = [geometry(each, STEPS, weighting, lam, half) for each in kappa]
        ce = F.cross_entropy(ref.model(adv), y, reduction="none")
        ref.sgd(ref.grads(sum(w * c for w, c in zip(weights, ce, strict=True)) / sum(weights)))

    return step


def mail(form: str, beta: float, slope: float, bias: float, scale: float = 3.0, normalize: bool = False) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start, "kl" if form == "trades" else "ce")
        p = F.softmax(ref.model(x), 1) if form != "at" else None
        log_q = F.log_softmax(ref.model(adv), 1)
        q, rows = log_q.exp(), torch.arange(len(y))
        best_wrong = torch.stack([max(q[i, k] for k in range(q.shape[1]) if k != y[i]) for i in rows])
        weights = (scale / (1 + (-slope * (best_wrong - q[rows, y] + bias)).exp())).detach()
        if normalize:
            weights = len(y) * weights / weights.sum()
        ce = -log_q[rows, y]
        if form == "at":
            losses = weights * ce
        elif form == "trades":
            losses = -p[rows, y].log() + beta * weights * (p * (p.log() - log_q)).sum(1)
        else:
            kl = (p * (p.log() - (q + 1e-12).log())).sum(1)
            bce = ce - (1.0001 - best_wrong + 1e-12).log()
            losses = weights * bce + beta * kl * (1.0000001 - p[rows, y])
        ref.sgd(ref.grads(losses.mean()))

    return step
