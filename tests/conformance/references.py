"""The methods again, literally from their equations: plain torch, one function a method, nothing of buttress.

Everything is float64 and written for reading: SGD by hand, PGD by hand, every perturbation on explicit copies. The
constants are those of ``LR``, ``MOMENTUM``, ``DECAY``, ``EPS``, ``ALPHA`` and ``STEPS``.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-3
EPS, ALPHA, STEPS = 0.1, 0.03, 3


class ConvNet(nn.Module):
    """``[B,1,4,4]`` to 4 logits: two convolutions with batch norm, mean pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.linear(x.mean((2, 3)))


class MLP(nn.Module):
    """``[B,1,4,4]`` to 4 logits through one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.linear = nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.conv1(x.flatten(1))))


class Reference:
    """A model, its momentum buffers, and one training step of a method.

    Args:
        model: copied.
        step: changes the reference by one step on (x, y), whose attack begins at x + start.

    Attributes:
        at_start: parameters and buffers of floating dtype at the beginning.
        ends: the same at the end of each epoch, as the methods of epochs leave them.
        tracks: track to its parameters.
        memory: what a method remembers from step to step.
    """

    def __init__(self, model: nn.Module, step: "Step") -> None:
        self.model, self.method = copy.deepcopy(model).train(), step
        self.buffer = {name: torch.zeros_like(weight) for name, weight in self.model.named_parameters()}
        self.lr, self.decay = dict.fromkeys(self.buffer, LR), dict.fromkeys(self.buffer, DECAY)
        self.at_start = self.copied()
        self.ends: list[dict[str, Tensor]] = []
        self.tracks: dict[str, dict[str, Tensor]] = {}
        self.memory: dict[str, Any] = {}

    def step(self, x: Tensor, y: Tensor, start: Tensor) -> None:
        self.method(self, x, y, start)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def copied(self) -> dict[str, Tensor]:
        """A copy of parameters and buffers of floating dtype."""
        return {name: value.clone() for name, value in self.model.state_dict().items() if value.is_floating_point()}

    def grads(self, loss: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.weights, torch.autograd.grad(loss, list(self.weights.values())), strict=True))

    @torch.no_grad()
    def sgd(self, grads: dict[str, Tensor]) -> None:
        """buf <- mu buf + g + wd theta;  theta <- theta - lr buf."""
        for name, weight in self.weights.items():
            self.buffer[name] = MOMENTUM * self.buffer[name] + grads[name] + self.decay[name] * weight
            weight -= self.lr[name] * self.buffer[name]

    @torch.no_grad()
    def add(self, v: dict[str, Tensor], sign: float = 1.0) -> None:
        for name, value in v.items():
            self.weights[name].add_(value, alpha=sign)

    @contextmanager
    def statistics_kept(self):
        """Train mode without a trace in batch norm's running statistics."""
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        yield
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])

    def attack(self, x: Tensor, y: Tensor, start: Tensor, loss: str = "ce") -> Tensor:
        """x' <- clip_[0,1](clip_{x +- eps}(x' + alpha sign(g))), in eval mode."""
        self.model.eval()
        p = F.softmax(self.model(x), 1).detach()
        adv = x + start
        for _ in range(STEPS):
            adv = adv.detach().requires_grad_()
            z = self.model(adv)
            if loss == "ce":
                value = F.cross_entropy(z, y, reduction="sum")
            else:
                value = (p * (p.log() - F.log_softmax(z, 1))).sum()
            (g,) = torch.autograd.grad(value, adv)
            adv = (adv + ALPHA * g.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
        self.model.train()
        return adv.detach()


def renorm(delta: Tensor, eps: float) -> Tensor:
    """delta <- delta eps / (||delta||_2 + 1e-7) where ||delta||_2 > eps: torch.renorm, by hand, example by example."""
    lengths = [each.norm() for each in delta]
    return torch.stack([d * eps / (n + 1e-7) if n > eps else d for d, n in zip(delta, lengths, strict=True)])


def l2_attack_ro(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, alpha: float, steps: int) -> Tensor:
    """Rice et al.: the gradient of the batch's mean loss over its norm plus 1e-10; ball, then box."""
    delta = start
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(x + delta), y), delta)
        scaled = torch.stack([each / (each.norm() + 1e-10) for each in g])
        delta = renorm(delta + alpha * scaled, eps)
        delta = torch.minimum(torch.maximum(delta, 0 - x), 1 - x)
    return (x + delta).detach()


def l2_attack_trades(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, alpha: float, steps: int
) -> Tensor:
    """Zhang et al.: the gradient of the summed divergence over its norm; box, then ball; the box again at the end."""
    delta, p = start, F.softmax(model(x), 1).detach()
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        value = (p * (p.log() - F.log_softmax(model(x + delta), 1))).sum()
        (g,) = torch.autograd.grad(value, delta)
        delta = delta + alpha * torch.stack([each / each.norm() for each in g])
        delta = renorm((x + delta).clamp(0, 1) - x, eps)
    return (x + delta).clamp(0, 1).detach()


Step = Callable[[Reference, Tensor, Tensor, Tensor], None]
End = Callable[[Reference, int], None]
"""(reference, epoch from 0): the end of an epoch."""
Losses = Callable[[Reference, Tensor, Tensor, Tensor], Tensor]
"""(reference, x, x', y) to losses [B]; clean forward first."""


# Losses


def at(ref: Reference, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(ref.model(adv), y, reduction="none")


def trades(ref: Reference, x: Tensor, adv: Tensor, y: Tensor, beta: float = 6.0) -> Tensor:
    z, z_adv = ref.model(x), ref.model(adv)
    p, q = F.softmax(z, 1), F.softmax(z_adv, 1)
    return -p.gather(1, y[:, None])[:, 0].log() + beta * (p * (p.log() - q.log())).sum(1)


def smoothed_trades(ref: Reference, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
    """Beta 5, and the clean cross-entropy with a tenth of the label spread over all classes, its own included."""
    z, z_adv = ref.model(x), ref.model(adv)
    p, q = F.softmax(z, 1), F.softmax(z_adv, 1)
    fit = -0.9 * p.gather(1, y[:, None])[:, 0].log() - 0.1 * p.log().mean(1)
    return fit + 5.0 * (p * (p.log() - q.log())).sum(1)


def smoothed_at(ref: Reference, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy with 0.3 of the label spread over all classes, after an attack on the labels as they are."""
    p = F.softmax(ref.model(adv), 1)
    return -0.7 * p.gather(1, y[:, None])[:, 0].log() - 0.3 * p.log().mean(1)


def trades_two_forwards(ref: Reference, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
    losses = trades(ref, x, adv, y)
    with torch.no_grad():
        ref.model(x)  # the second clean forward moves the running statistics once more
    return losses


def mart(ref: Reference, x: Tensor, adv: Tensor, y: Tensor, lam: float = 5.0) -> Tensor:
    p, log_q = F.softmax(ref.model(x), 1), F.log_softmax(ref.model(adv), 1)
    q, rows = log_q.exp(), torch.arange(len(y))
    wrong = q.clone()
    wrong[rows, y] = 0
    bce = -log_q[rows, y] - (1.0001 - wrong.max(1).values + 1e-12).log()
    kl = (p * (p.log() - (q + 1e-12).log())).sum(1)
    return bce + lam * kl * (1.0000001 - p[rows, y])


def nmse(ref: Reference, x: Tensor, adv: Tensor, y: Tensor, mu: float = 4.0, detach: bool = False) -> Tensor:
    z, z_adv = ref.model(x), ref.model(adv)
    u, u_adv = z / z.norm(dim=1, keepdim=True), z_adv / z_adv.norm(dim=1, keepdim=True)
    weight = 1 - F.softmax(z, 1)[torch.arange(len(y)), y]
    weight = weight.detach() if detach else weight
    return F.cross_entropy(z_adv, y, reduction="none") + mu * weight * ((u_adv - u) ** 2).sum(1)


def alp(ref: Reference, x: Tensor, adv: Tensor, y: Tensor, w: float = 0.5, mixed: bool = False) -> Tensor:
    z, z_adv = ref.model(x), ref.model(adv)
    ce = F.cross_entropy(z_adv, y, reduction="none")
    if mixed:
        ce = 0.5 * ce + 0.5 * F.cross_entropy(z, y, reduction="none")
    return ce + w * ((z_adv - z) ** 2).sum(1)


# Steps


def plain(losses: Losses = at, attack: str = "ce") -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start, attack)
        ref.sgd(ref.grads(losses(ref, x, adv, y).mean()))

    return step


def from_gradient(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
    """The public code of IDBH: all in train mode; delta begins at the gradient of the mean loss, whatever its size."""

    def gradient(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(ref.model(at), y), at)[0]

    delta = gradient(x)
    for _ in range(STEPS):
        g = gradient((x + delta).clamp(0, 1))
        delta = (delta + ALPHA * g.sign()).clamp(-EPS, EPS)
        delta = (x + delta).clamp(0, 1) - x
    natural(ref, x + delta, y, start)


def natural(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
    ref.sgd(ref.grads(F.cross_entropy(ref.model(x), y)))


def fgsm(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
    """x' = clip_[0,1](x + eps sign(g)), the gradient at x itself."""
    ref.model.eval()
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(ref.model(x), y, reduction="sum"), x)
    ref.model.train()
    natural(ref, (x + EPS * g.sign()).clamp(0, 1).detach(), y, start)


def norm(tensors: dict[str, Tensor]) -> Tensor:
    """Norm of the concatenation."""
    return torch.cat([value.flatten() for value in tensors.values()]).norm()


def matrices(ref: Reference) -> list[str]:
    return [name for name, weight in ref.weights.items() if weight.dim() > 1 and "weight" in name]


def step_at_perturbed(ref: Reference, v: dict[str, Tensor], loss: Callable[[], Tensor]) -> None:
    """w <- (w + v) - eta (...) - v: the optimizer steps while the weights are perturbed."""
    ref.add(v)
    ref.sgd(ref.grads(loss()))
    ref.add(v, -1.0)


def step_at_restored(ref: Reference, v: dict[str, Tensor], loss: Callable[[], Tensor]) -> None:
    before = {name: weight.detach().clone() for name, weight in ref.weights.items()}
    ref.add(v)
    grads = ref.grads(loss())
    for name, weight in ref.weights.items():
        weight.data.copy_(before[name])
    ref.sgd(grads)


def awp(
    gamma: float = 0.01,
    losses: Losses = at,
    attack: str = "ce",
    only: Callable[[str], bool] = lambda name: True,
    lsc: tuple[float, float] | None = None,
    finish: Callable[..., None] = step_at_perturbed,
    every: bool = False,
    one_norm: bool = False,
) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start, attack)
        with ref.statistics_kept():
            values = losses(ref, x, adv, y)
            if lsc is not None:
                values = values[(values >= lsc[0]) & (values <= lsc[1])]
            g = ref.grads(values.sum())
        chosen = [name for name in (ref.weights if every else matrices(ref)) if only(name)]
        w = {name: ref.weights[name].detach() for name in chosen}
        if one_norm:
            v = {name: gamma * norm(w) / norm({n: g[n] for n in chosen}) * g[name] for name in chosen}
        else:
            v = {name: gamma * w[name].norm() / g[name].norm() * g[name] for name in chosen}
        finish(ref, v, lambda: losses(ref, x, adv, y).mean())

    return step


def rwp(
    gamma: float = 0.01,
    c_min: float = 1.4,
    k2: int = 3,
    official: bool = False,
    layerwise: bool = False,
    losses: Losses = at,
    attack: str = "ce",
) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start, attack)
        chosen = matrices(ref)
        w = {name: ref.weights[name].detach().clone() for name in chosen}
        v = {name: torch.zeros_like(value) for name, value in w.items()}
        raw = dict(v)
        for _ in range(k2):
            ref.add(v)
            with ref.statistics_kept():
                values = losses(ref, x, adv, y)
                easy = values < c_min if official else values <= c_min
                g = ref.grads((values * easy).sum() / len(values))
            for name in chosen:
                ref.weights[name].data.copy_(w[name])
            if not easy.any():
                break
            base = raw if official else v
            raw = {name: base[name] + g[name] for name in chosen}
            if layerwise:
                v = {name: gamma * w[name].norm() * raw[name] / raw[name].norm() for name in chosen}
            else:
                v = {name: gamma * norm(w) * raw[name] / norm(raw) for name in chosen}
        step_at_perturbed(ref, v, lambda: losses(ref, x, adv, y).mean())

    return step


def amp(
    delta: float = 0.1,
    n: int = 1,
    xi: float = 1.0,
    per_tensor: bool = False,
    reattack_final: bool = False,
    clip: float | None = None,
    bn_all: bool = False,
    losses: Losses = at,
    attack: str = "ce",
) -> Step:
    """Algorithm 1: Delta <- Delta + xi b, projected; then theta <- theta - eta c, c at theta + Delta."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        theta = {name: weight.detach().clone() for name, weight in ref.weights.items()}
        moved = {name: torch.zeros_like(value) for name, value in theta.items()}

        def move() -> None:
            for name, weight in ref.weights.items():
                weight.data.copy_(theta[name] + moved[name])

        for _ in range(n):
            move()
            adv = ref.attack(x, y, start, attack)
            if bn_all:
                b = ref.grads(losses(ref, x, adv, y).mean())
            else:
                with ref.statistics_kept():
                    b = ref.grads(losses(ref, x, adv, y).mean())
            if clip is not None:  # as torch.nn.utils.clip_grad_norm_, which the public code calls
                shorter = min(1.0, clip / (norm(b) + 1e-6))
                b = {name: shorter * value for name, value in b.items()}
            moved = {name: moved[name] + xi * b[name] for name in moved}
            if per_tensor:
                moved = {k: delta * d / d.norm() if d.norm() > delta else d for k, d in moved.items()}
            elif norm(moved) > delta:
                length = norm(moved)
                moved = {name: delta * value / length for name, value in moved.items()}
        move()
        if reattack_final:
            adv = ref.attack(x, y, start, attack)
        c = ref.grads(losses(ref, x, adv, y).mean())
        for name, weight in ref.weights.items():
            weight.data.copy_(theta[name])
        ref.sgd(c)

    return step


def l1(weight: float) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start)
        chosen = [w for name, w in ref.weights.items() if "bn" not in name and "bias" not in name]
        ref.sgd(ref.grads(at(ref, x, adv, y).mean() + weight * sum(w.abs().sum() for w in chosen)))

    return step


def l2(decay: float) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        ref.decay = {name: 0.0 if "bn" in name or "bias" in name else decay for name in ref.weights}
        plain()(ref, x, y, start)

    return step


def drop_easy(c_min: float, kept_mean: bool) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        adv = ref.attack(x, y, start)
        losses = at(ref, x, adv, y)
        left = losses[losses >= c_min]
        ref.sgd(ref.grads(left.mean() if kept_mean else left.sum() / len(losses)))

    return step


def fixed_lr(names: Callable[[str], bool], factor: float) -> Step:
    """The learning rate has dropped by ``factor``; the parameters called so keep the initial one (RAT_LR)."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        ref.lr = {name: LR if names(name) else factor * LR for name in ref.weights}
        plain()(ref, x, y, start)

    return step


def frozen(names: Callable[[str], bool]) -> Step:
    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        ref.lr = {name: 0.0 if names(name) else LR for name in ref.weights}
        plain()(ref, x, y, start)

    return step


# Ensembles


def nothing(ref: Reference, epoch: int) -> None:
    """An epoch's end that changes nothing."""


def meat(ref: Reference, epoch: int) -> None:
    """The lower median of the weights of all epochs, element by element."""
    ref.ends.append(ref.copied())
    middle = (len(ref.ends) - 1) // 2
    ref.tracks["meat"] = {
        name: torch.stack([end[name] for end in ref.ends]).sort(0).values[middle] for name in ref.weights
    }


def swa(ref: Reference, epoch: int) -> None:
    """The mean of the weights of all epochs."""
    ref.ends.append(ref.copied())
    ref.tracks["swa"] = {name: sum(end[name] for end in ref.ends) / len(ref.ends) for name in ref.weights}


def ema(tau: float) -> Step:
    """average <- tau average + (1 - tau) theta after every step, from the weights at the start."""

    def step(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
        plain()(ref, x, y, start)
        before = ref.tracks.get("ema", ref.at_start)
        ref.tracks["ema"] = {
            name: tau * before[name] + (1 - tau) * weight.detach() for name, weight in ref.weights.items()
        }

    return step


def piat(
    lams: Sequence[float], buffers: str = "interpolate", inputs: Sequence[Tensor] = (), skip_first: bool = False
) -> End:
    """theta <- lam theta of the epoch before + (1 - lam) theta; ``lams``: the coefficient of each epoch."""

    @torch.no_grad()
    def end(ref: Reference, epoch: int) -> None:
        previous = ref.ends[-1] if ref.ends else ref.at_start
        for name, value in ref.model.state_dict().items():
            if name in previous and (buffers == "interpolate" or name in ref.weights):
                value.copy_(lams[epoch] * previous[name] + (1 - lams[epoch]) * value)
        if buffers == "reestimate" and not (skip_first and epoch == 0):
            remeasure(ref.model, inputs)
        ref.ends.append(ref.copied())

    return end


@torch.no_grad()
def remeasure(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Running statistics as the plain mean over batches of equal size; n unbiased as torch's batch norm has it."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # a cumulative mean
    for x in inputs:
        model(x)
    for each in norms:
        each.momentum = 0.1
