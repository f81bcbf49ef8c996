"""The loops that people write by hand, from the mathematics of each method: plain torch, nothing of buttress.

What the public codes compute and do not need is computed here too:

- *PGD-AT*: the attack calls ``loss.backward()``, so it computes the gradients of all weights in each of its steps.
- *TRADES*: the attack forwards the clean batch in each of its steps, and the loss forwards it twice.
- *AWP*: an optimizer moves a proxy, a copy of the model, up the loss. The differences of its weights, scaled to the
  norms of the weights, are added to the model for one step and subtracted afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

PROXY_LR = 0.01
TINY = 1e-20
"""Added to norms by which is divided."""

Attacker = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""Model, x, y and start to adversarial examples; the attack begins at x + start."""
Losses = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""Model, x, adversarial examples and y to losses ``[B]``."""
NamedWeights = dict[str, Tensor]
"""Weights, or changes of them, by name."""


# Attacks


@dataclass(frozen=True)
class LoopAttack:
    """Projected gradient ascent on the loss of the input.

    Args:
        norm: ``linf`` or ``l2``.
        eps: radius of the ball.
        step_size: length of a step.
        steps: number of steps.
        box: lower and upper bound of every input value, or None.
    """

    norm: Literal["linf", "l2"]
    eps: float
    step_size: float
    steps: int
    box: tuple[float, float] | None = (0.0, 1.0)

    def on_cross_entropy(self, model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """The attack of PGD-AT."""
        x_adv = (x + start).detach()
        for _ in range(self.steps):
            x_adv.requires_grad_()
            loss = F.cross_entropy(model(x_adv), y)
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            assert x_adv.grad is not None
            x_adv = self.step(x_adv.detach(), x_adv.grad, x)
        return x_adv

    def on_divergence(self, model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """The attack of TRADES."""
        x_adv = (x + start).detach()
        for _ in range(self.steps):
            x_adv.requires_grad_()
            loss = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum")
            (grad,) = torch.autograd.grad(loss, [x_adv])
            x_adv = self.step(x_adv.detach(), grad, x)
        return x_adv

    def step(self, x_adv: Tensor, grad: Tensor, x: Tensor) -> Tensor:
        """``x_adv`` after one step along ``grad``, inside the ball and the box."""
        if self.norm == "linf":
            x_adv = x_adv + self.step_size * grad.sign()
            x_adv = torch.min(torch.max(x_adv, x - self.eps), x + self.eps)
        else:
            moved = x_adv + self.step_size * grad / (lengths(grad) + TINY) - x
            x_adv = x + moved * (self.eps / (lengths(moved) + TINY)).clamp(max=1)
        return x_adv if self.box is None else x_adv.clamp(*self.box)

    def uniform_start(self, x: Tensor) -> Tensor:
        """The start of PGD-AT: in the cube, or in a random direction of the L2 ball."""
        if self.norm == "linf":
            return torch.empty_like(x).uniform_(-self.eps, self.eps)
        direction = torch.randn_like(x)
        radius = self.eps * torch.rand(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device)
        return radius * direction / lengths(direction)

    @staticmethod
    def gaussian_start(x: Tensor) -> Tensor:
        """The start of TRADES."""
        return 0.001 * torch.randn_like(x)


def lengths(x: Tensor) -> Tensor:
    """L2 norms of the examples ``x [B,*]``, shaped ``[B,1,...]``."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.view(-1, *[1] * (x.dim() - 1))


# Losses


def cross_entropy(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    """The losses of PGD-AT."""
    return F.cross_entropy(model(x_adv), y, reduction="none")


@dataclass(frozen=True)
class Trades:
    """The losses of TRADES: ``CE(f(x), y) + beta * KL(p(x) || p(x'))``."""

    beta: float

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        divergence = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="none").sum(1)
        return F.cross_entropy(model(x), y, reduction="none") + self.beta * divergence


# Training steps


@dataclass(eq=False, kw_only=True)
class Loop:
    """A model that is trained by attack, loss, backward and optimizer, as in PGD-AT and TRADES.

    Args:
        model: model, trained in place.
        optimizer: optimizer over its parameters.
        attack: attack of the training step.
        losses: losses of the training step.
        attacks_in_eval_mode: whether the model is in eval mode during the attack.
    """

    model: nn.Module
    optimizer: Optimizer
    attack: Attacker
    losses: Losses
    attacks_in_eval_mode: bool = True

    def step(self, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """Train on a batch whose attack begins at ``x + start``; return the adversarial examples."""
        self.model.train(not self.attacks_in_eval_mode)
        x_adv = self.attack(self.model, x, y, start)
        self.model.train()
        self.update(x, x_adv, y)
        return x_adv

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        self.backward(x, x_adv, y)
        self.optimizer.step()

    def backward(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.losses(self.model, x, x_adv, y).mean().backward()  # type: ignore[no-untyped-call]


@dataclass(eq=False, kw_only=True)
class LoopAWP(Loop):
    """Adversarial weight perturbation by a proxy.

    Args:
        proxy: a second model of the same kind, whatever its weights.
        gamma: size of the perturbation, relative to each layer's norm.
    """

    proxy: nn.Module
    gamma: float

    proxy_optimizer: Optimizer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.proxy_optimizer = SGD(self.proxy.parameters(), lr=PROXY_LR)

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        worst = self.worst(x, x_adv, y)
        add(self.model, worst, self.gamma)
        super().update(x, x_adv, y)
        add(self.model, worst, -self.gamma)

    def worst(self, x: Tensor, x_adv: Tensor, y: Tensor) -> NamedWeights:
        """The direction in which the loss grows, each tensor as long as the weights that it changes."""
        self.proxy.load_state_dict(self.model.state_dict())
        self.proxy.train()
        loss = -self.losses(self.proxy, x, x_adv, y).mean()
        self.proxy_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.proxy_optimizer.step()
        weights = matrices(self.model)
        return {
            name: weights[name].norm() / (change.norm() + TINY) * change
            for name, change in differences(self.proxy, self.model).items()
        }


# Weights by name


def matrices(model: nn.Module) -> NamedWeights:
    """The tensors that AWP perturbs."""
    return {name: value for name, value in model.state_dict().items() if value.dim() > 1 and "weight" in name}


def differences(after: nn.Module, before: nn.Module) -> NamedWeights:
    """The changes of these tensors."""
    old = matrices(before)
    return {name: value - old[name] for name, value in matrices(after).items()}


@torch.no_grad()
def add(model: nn.Module, changes: NamedWeights, factor: float) -> None:
    """Add ``factor * changes`` to the weights."""
    for name, weight in model.named_parameters():
        if name in changes:
            weight.add_(factor * changes[name])
