"""Small models that tests share: solvable by hand, or so small that a step takes a millisecond."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNet(nn.Module):
    """``[B,1,4,4]`` to 3 logits: convolution, batch norm, ReLU, mean pool, classifier."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(seed)
            self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(4)
            self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.bn(self.conv(x))).mean((2, 3)))


class DroppingNet(ConvNet):
    """``ConvNet`` with dropout before its classifier, which draws from torch's global generator in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.dropout(F.relu(self.bn(self.conv(x))).mean((2, 3)), 0.5, self.training))


class MLP(nn.Module):
    """``[B,1,4,4]`` to 3 logits, smooth, without buffers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(seed)
            self.first = nn.Linear(16, 5)
            self.second = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x.flatten(1))))


class FourStages(nn.Module):
    """``[B,1,8,8]`` to 10 logits: four layers with batch norm, named like the stages of a residual network."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU())
        for stage in (2, 3, 4):
            block = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())
            self.add_module(f"layer{stage}", block)
        self.linear = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class Halfspace(nn.Module):
    """Logits ``(w.x, -w.x)``: every loss is monotone in ``w.x``, so the strongest perturbation is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight
        return torch.stack([score, -score], 1)


class Linear(nn.Module):
    """Logits ``W flat(x)``, float64; all of W is given."""

    def __init__(self, weight: Sequence[Sequence[float]] | np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.asarray(weight, dtype=np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T
