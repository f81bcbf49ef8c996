"""Methods of fast adversarial training again, literally from their equations; see ``references.py``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .references import ALPHA, EPS, Reference, Step, natural


def input_gradient(ref: Reference, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the cross-entropy at ``x``, in eval mode."""
    ref.model.eval()
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(ref.model(x), y, reduction="sum"), x)
    ref.model.train()
    return g


def fast(noise: Tensor) -> Step:
    """delta <- clip_{+-eps}(delta + 1.25 eps sign(g)), the gradient at x + delta; the box."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        g = input_gradient(ref, x + noise, y)
        delta = (noise + 1.25 * EPS * g.sign()).clamp(-EPS, EPS)
        natural(ref, (x + delta).clamp(0, 1), y, start)

    return step


def n_fgsm(noise: Tensor, alpha: float = 1.0) -> Step:
    """x' = clip_[0,1](x + noise + alpha eps sign(g)), the gradient at x + noise, which is clipped to the box before."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        g = input_gradient(ref, x + noise, y)
        natural(ref, (x + noise + alpha * EPS * g.sign()).clamp(0, 1), y, start)

    return step


def grad_align(eta: Tensor, lam: float = 0.2, official: bool = False) -> Step:
    """FGSM, and lam (1 - cos(grad_x l(x), grad_x l(x + eta))) on top of its loss, all in train mode but the attack."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = (x + EPS * input_gradient(ref, x, y).sign()).clamp(0, 1)

        def gradient(at: Tensor) -> Tensor:
            at = at.detach().requires_grad_()
            return torch.autograd.grad(F.cross_entropy(ref.model(at), y), at, create_graph=True)[0]

        g = gradient(x)
        g = g.detach() if official else g
        ce = F.cross_entropy(ref.model(adv), y)
        pairs = zip(g, gradient(x + eta), strict=True)
        turns = [1 - (a * b).sum() / (a.norm() * b.norm()) for a, b in pairs]
        ref.sgd(ref.grads(ce + lam * sum(turns) / len(turns)))

    return step


def free_at(replays: int = 1, step_size: float = EPS) -> Step:
    """``replays`` steps on each batch; delta <- clip_{+-eps}(delta + eps sign(g)), g that of the training loss."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        for _ in range(replays):
            delta = getattr(ref, "delta", torch.zeros_like(x)).requires_grad_()
            loss = F.cross_entropy(ref.model((x + delta).clamp(0, 1)), y)
            *grads, g = torch.autograd.grad(loss, [*ref.weights.values(), delta])
            ref.sgd(dict(zip(ref.weights, grads, strict=True)))
            ref.delta = (delta.detach() + step_size * g.sign()).clamp(-EPS, EPS)

    return step


def masked_pgd(start: Tensor, patches: Tensor, side: int) -> Step:
    """PRM: before each step of PGD, the perturbation of the patches ``[steps, P]`` is set to zero."""

    def step(ref: Reference, x: Tensor, y: Tensor, _: Tensor) -> None:
        columns, delta = x.shape[3] // side, start
        for masked in patches:
            delta = delta.clone()
            for index in masked.nonzero().flatten().tolist():
                top, left = side * (index // columns), side * (index % columns)
                delta[:, :, top : top + side, left : left + side] = 0
            g = input_gradient(ref, x + delta, y)
            delta = (delta + ALPHA * g.sign()).clamp(-EPS, EPS)
            delta = (x + delta).clamp(0, 1) - x
        natural(ref, x + delta, y, start)

    return step
