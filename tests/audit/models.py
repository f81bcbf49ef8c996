"""Honest models, trained for a second on digits, and models that are broken on purpose."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from buttress import Engine, Split, ThreatModel

LINF = ThreatModel("linf", "1/10")
L2 = ThreatModel("l2", "1/2")
Forward = Callable[[nn.Module, Tensor], Tensor]


@cache
def digits() -> tuple[Split, Split]:
    """600 training and 100 test images, ``[1,8,8]`` in [0, 1]."""
    data = load_digits()
    x, y = torch.from_numpy(data.images / 16).float().unsqueeze(1), torch.from_numpy(data.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[:600], order[600:700]
    return Split(x[train], y[train]), Split(x[test], y[test])


def trained(model: nn.Module, attack: str, threat: ThreatModel, epochs: int) -> nn.Module:
    engine = Engine(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), [attack], threat)
    train = digits()[0]
    for _ in range(epochs):
        for batch in train.batches(torch.arange(len(train)), 60):
            engine.step(batch.x, batch.y)
        engine.end_epoch()
    return model.eval()


class Conv(nn.Module):
    """Convolutions with batch norm, and max pooling with its ties."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.linear = nn.Linear(24 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.linear(x.flatten(1))


@cache
def honest(name: str) -> tuple[nn.Module, ThreatModel]:
    """``natural``: a ReLU network without defense; ``robust``: one with FGSM training; ``smooth``: L2, no ReLU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "robust":
            return trained(Conv(), "fgsm", LINF, 8), LINF
        act = nn.Tanh if name == "smooth" else nn.ReLU
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), act(), nn.Dropout(0.1), nn.Linear(64, 10))
        threat = L2 if name == "smooth" else LINF
        return trained(model, "fgsm" if name == "smooth" else "clean", threat, 10), threat


class Around(nn.Module):
    """A model inside a function of it and of the input."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self.model, x)


class Straight(torch.autograd.Function):
    """Rounds to four levels and claims to be the identity."""

    @staticmethod
    def forward(ctx, x):
        return (3 * x).round() / 3

    @staticmethod
    def backward(ctx, grad):
        return grad


def resized(model: nn.Module, x: Tensor) -> Tensor:
    small = F.interpolate(x, int(torch.randint(6, 8, ())))
    return model(F.interpolate(small, 8))


BROKEN: dict[str, tuple[Forward, set[str]]] = {
    "softmax output": (lambda model, x: model(x).softmax(1), {"outputs are logits"}),
    "log softmax output": (lambda model, x: model(x).log_softmax(1), {"outputs are logits"}),
    "temperature 1e-4": (lambda model, x: model(x) * 1e4, {"outputs are logits", "gradients exist"}),
    "temperature 1e4": (lambda model, x: model(x) / 1e4, {"outputs are logits"}),
    "input quantisation": (
        lambda model, x: model((3 * x).round() / 3),
        {"gradients exist", "black box is weaker", "eps grows to zero"},
    ),
    "straight-through quantisation": (lambda model, x: model(Straight.apply(x)), {"gradients match"}),
    "random resize": (resized, {"outputs repeat"}),
    "gradient killer": (
        lambda model, x: model(x.detach()),
        {"gradients exist", "gradients match", "black box is weaker", "eps grows to zero", "starts agree"},
    ),
    "exploding gradient": (
        lambda model, x: model(x) + 0 * (0 * x).sqrt().flatten(1).sum(1, keepdim=True),
        {"gradients exist"},
    ),
    "dropout left on": (lambda model, x: model(F.dropout(x, 0.2, training=True)), {"outputs repeat"}),
    "detached branch": (
        lambda model, x: model(x.detach()) + 0.01 * model(1 - x),
        {"gradients match", "black box is weaker", "starts agree"},
    ),
    "hard decisions": (
        lambda model, x: F.one_hot(model(x).argmax(1), 10).to(x.dtype) * 10,
        {"gradients exist"},
    ),
    "not a number": (lambda model, x: model(x) * float("nan"), {"outputs are logits"}),
}
"""Name to what it does and to the checks that have to flag it (others may)."""
