"""The training steps of the public codes, each from its mathematics: plain torch in float32, nothing of buttress.

The attacks run in eval mode, the losses in train mode. What these codes compute and do not need is computed here too.
Where they differ among themselves, the leaner form is here: no forward after the attack to choose among restarts, and
no gradients of weights that add up over the attack.

- *PGD-AT*: the attack calls ``loss.backward()``, so it computes the gradients of all weights in each of its steps.
- *TRADES*: the attack forwards the clean batch in each of its steps, and the loss forwards it twice.
- *AWP*: an optimizer moves a proxy, a copy of the model, up the loss. The differences of its weights, scaled to the
  norms of the weights, are added to the model for one step and subtracted afterwards.
- *RWP*: ten such steps with two proxies, on the losses of the examples that satisfy the loss-stationary condition. The
  sum of the differences has one norm for all weights.
- *AMP*: Delta moves along the gradient into a ball around each parameter; the gradient at theta + Delta moves theta.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP_SIZE, STEPS = 8 / 255, 2 / 255, 10
BETA = 6.0
PROXY_LR, TINY = 0.01, 1e-20

Attack = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(model, x, y, start) to adversarial examples."""
Losses = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(model, x, adversarial examples, y) to losses ``[B]``."""
Weights = dict[str, Tensor]
"""Weights, or changes of them, by name."""


def sgd(model: nn.Module, *, fused: bool | None = None) -> torch.optim.Optimizer:
    """The optimizer of both sides; the public codes have torch's default form."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused)


# Attacks and losses


def ce_attack(model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    x_adv = (x + start).detach()
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = F.cross_entropy(model(x_adv), y)
        model.zero_grad()
        loss.backward()
        x_adv = ascended(x_adv.detach(), x_adv.grad, x)
    return x_adv


def kl_attack(model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    x_adv = (x + start).detach()
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum")
        (grad,) = torch.autograd.grad(loss, [x_adv])
        x_adv = ascended(x_adv.detach(), grad, x)
    return x_adv


def ascended(x_adv: Tensor, grad: Tensor, x: Tensor) -> Tensor:
    """``x_adv`` after one step along the sign of ``grad``, inside the ball and the box."""
    x_adv = x_adv + STEP_SIZE * grad.sign()
    return torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)


def cross_entropy(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x_adv), y, reduction="none")


def trades(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    divergence = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="none").sum(1)
    return F.cross_entropy(model(x), y, reduction="none") + BETA * divergence


# Training steps


@dataclass(eq=False)
class Official:
    """A model that is trained by attack, loss, backward and optimizer, as in PGD-AT and TRADES.

    Args:
        model: model, trained in place.
        attack: attack of the training step.
        losses: losses of the training step.
    """

    model: nn.Module
    attack: Attack
    losses: Losses

    def __post_init__(self) -> None:
        self.optimizer = sgd(self.model)

    def step(self, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """Train on a batch whose attack begins at ``x + start``; return the adversarial examples."""
        self.model.eval()
        x_adv = self.attack(self.model, x, y, start)
        self.model.train()
        self.update(x, x_adv, y)
        return x_adv

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        self.backward(x, x_adv, y)
        self.optimizer.step()

    def backward(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.losses(self.model, x, x_adv, y).mean().backward()


@dataclass(eq=False)
class OfficialAWP(Official):
    """Adversarial weight perturbation by a proxy; ``gamma`` is its size, relative to each layer's norm."""

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.proxy = copy.deepcopy(self.model)
        self.proxy_optimizer = torch.optim.SGD(self.proxy.parameters(), lr=PROXY_LR)

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        worst = self.worst(x, x_adv, y)
        add(self.model, worst, self.gamma)
        super().update(x, x_adv, y)
        add(self.model, worst, -self.gamma)

    def worst(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Weights:
        """The direction in which the loss grows, each tensor as long as the weights that it changes."""
        self.proxy.load_state_dict(self.model.state_dict())
        self.proxy.train()
        loss = -self.losses(self.proxy, x, x_adv, y).mean()
        self.proxy_optimizer.zero_grad()
        loss.backward()
        self.proxy_optimizer.step()
        weights = matrices(self.model)
        return {
            name: weights[name].norm() / (change.norm() + TINY) * change
            for name, change in differences(self.proxy, self.model).items()
        }


@dataclass(eq=False)
class OfficialRWP(OfficialAWP):
    """Robust weight perturbation in ``k2`` steps, on the examples whose loss is below ``c_min``."""

    c_min: float
    k2: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.before = copy.deepcopy(self.model)

    def worst(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Weights:
        total: Weights = {}
        scaled: Weights = {}
        for _ in range(self.k2):
            for proxy in (self.before, self.proxy):
                proxy.load_state_dict(self.model.state_dict())
                add(proxy, scaled, self.gamma)
            self.ascend(x, x_adv, y)
            changes = differences(self.proxy, self.before)
            total = {name: total[name] + change if total else change for name, change in changes.items()}
            scale = norm(matrices(self.model)) / (norm(total) + TINY)
            scaled = {name: scale * change for name, change in total.items()}
        return scaled

    def ascend(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        """Move the proxy up the losses of the easy examples."""
        self.proxy.train()
        losses = self.losses(self.proxy, x, x_adv, y)
        easy = (losses < self.c_min).to(losses.dtype)
        self.proxy_optimizer.zero_grad()
        (-(losses * easy).mean()).backward()
        self.proxy_optimizer.step()


@dataclass(eq=False)
class OfficialAMP(Official):
    """Adversarial model perturbation: one inner step of length 1, into a ball of radius ``delta`` for each tensor."""

    delta: float

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        self.backward(x, x_adv, y)
        moved = {}
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                change = weight.grad.clone()
                shorter = self.delta / (change.norm() + 1e-12)
                moved[name] = shorter * change if shorter < 1 else change
                weight.add_(moved[name])
        self.backward(x, x_adv, y)
        add(self.model, moved, -1.0)
        self.optimizer.step()


# Weights by name


def matrices(model: nn.Module) -> Weights:
    """The tensors that AWP and RWP perturb."""
    return {name: value for name, value in model.state_dict().items() if value.dim() > 1 and "weight" in name}


def differences(after: nn.Module, before: nn.Module) -> Weights:
    old = matrices(before)
    return {name: value - old[name] for name, value in matrices(after).items()}


def norm(values: Weights) -> Tensor:
    """The norm of all values together."""
    return torch.cat([value.flatten() for value in values.values()]).norm()


@torch.no_grad()
def add(model: nn.Module, changes: Weights, factor: float) -> None:
    for name, weight in model.named_parameters():
        if name in changes:
            weight.add_(factor * changes[name])
