"""Auto-PGD again, literally from algorithm 1 of its paper and its public code, one example at a time."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .references import EPS, Reference, Step, natural

OneLoss = Callable[[Tensor, int], Tensor]
"""(logits [K], label) to a loss."""


def ce(z: Tensor, y: int) -> Tensor:
    return -F.log_softmax(z, 0)[y]


def dlr(z: Tensor, y: int) -> Tensor:
    """-(z_y - max_{k != y} z_k) / (z_(1) - z_(3) + 1e-12)."""
    ranked = sorted(z, key=Tensor.item, reverse=True)
    other = max((value for k, value in enumerate(z) if k != y), key=Tensor.item)
    return -(z[y] - other) / (ranked[0] - ranked[2] + 1e-12)


def towards(target: Callable[[Tensor, int], int]) -> OneLoss:
    """-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)."""

    def loss(z: Tensor, y: int) -> Tensor:
        ranked = sorted(z, key=Tensor.item, reverse=True)
        return -(z[y] - z[target(z, y)]) / (ranked[0] - (ranked[2] + ranked[3]) / 2 + 1e-12)

    return loss


def checkpoints(steps: int) -> list[int]:
    """w_j = ceil(p_j N) in the public code's whole numbers: 22 % of the steps, then 3 % less each, at least 6 %."""
    width, marks = max(int(0.22 * steps), 1), [0]
    while marks[-1] < steps:
        marks.append(marks[-1] + width)
        width = max(width - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return marks


def ascend(model: nn.Module, x: Tensor, y: int, start: Tensor, steps: int, loss: OneLoss) -> Tensor:
    """x_max of one example ``x [1,...]`` under L-inf."""

    def inside(z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, x - EPS), x + EPS).clamp(0, 1)

    def look(z: Tensor) -> tuple[float, Tensor]:
        z = z.detach().requires_grad_()
        value = loss(model(z)[0], y)
        return value.item(), torch.autograd.grad(value, z)[0]

    eta, marks = 2 * EPS, checkpoints(steps)
    before = now = inside(x + start)
    f, g = look(now)
    best, best_f, best_g = now, f, g
    seen, halved, best_at_mark = [0.0], True, f  # the public code compares the first step with 0
    for k in range(steps):
        alpha = 0.75 if k else 1.0
        z = inside(now + eta * g.sign())
        before, now = now, inside(now + alpha * (z - now) + (1 - alpha) * (now - before))
        f, g = look(now)
        seen.append(f)
        if f > best_f:
            best, best_f, best_g = now, f, g
        if k + 1 in marks:
            width = k + 1 - marks[marks.index(k + 1) - 1]
            rises = sum(seen[i + 1] > seen[i] for i in range(k + 1 - width, k + 1))
            first, second = rises <= 0.75 * width, not halved and best_at_mark == best_f
            halved, best_at_mark = first or second, best_f
            if halved:
                eta, now, g = eta / 2, best, best_g
    return best


def apgd(steps: int, loss: OneLoss = ce) -> Step:
    """One training step at the points of the highest loss, found in eval mode."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        ref.model.eval()
        singles = zip(x.split(1), y.tolist(), start.split(1), strict=True)
        found = [ascend(ref.model, each, label, delta, steps, loss) for each, label, delta in singles]
        ref.model.train()
        natural(ref, torch.cat(found), y, start)

    return step
