"""All that the engine adds to a training step beside attack, forward, backward and optimizer; for ``bench_hooks.py``.

``Engine.step`` on PreActResNet-18 with the default checks, where the network gives ready logits, its
backward gives ready gradients, and the attack is ``clean``; less the same by hand: loss, gradients, optimizer. What is
left is all that the engine adds to a step: dispatch, checks, copies. Rounds interleaved, each call with cold caches, as
after a backward. Beside it the same with a plugin from elsewhere in the stack, for which weights are copied; with
``nonfinite="skip"``; and whole PGD-10 steps of batch 32 in the same rounds, whose share the overhead is.
"""

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from common import summary
from devices import now
from torch import Tensor, nn

from buttress import Batch, Engine, ThreatModel, hookimpl
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny

# Steps without attack work, by the names of their results.
OVERHEADS = {
    "engine": "built-in plugins alone",
    "from_elsewhere": "with a plugin from elsewhere",
    "skipping": "with nonfinite: skip",
}


class Given(torch.autograd.Function):
    """Logits that are there already, whose backward gives gradients of the weights that are there already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, grads: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.grads = grads
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        return None, None, *ctx.grads


class Idle(nn.Module):
    """A network with the modules and weights of another one, which computes nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.grads = [torch.randn_like(weight) for weight in network.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        return Given.apply(torch.zeros(len(x), 10, device=x.device), self.grads, *self.parameters())  # type: ignore[no-any-return]


class Untouched:
    """A plugin from elsewhere that changes nothing."""

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        return batch


class Sizes(NamedTuple):
    """The sizes of the measured steps.

    Args:
        network: network that is trained.
        batch: number of examples in a batch.
        other: number of elements that are changed between two calls; more than any cache holds.
    """

    network: Callable[..., nn.Module] = preact_resnet18
    batch: int = 32
    other: int = 2**26


SMALL = Sizes(preact_tiny, 4, 16)
"""Sizes for tests."""


def measure_overhead(rounds: int, device: torch.device, sizes: Sizes, calls: int = 8) -> dict[str, Any]:
    """Seconds of whole steps, and of steps without attack, forward and backward: by the engine and by hand."""
    torch.manual_seed(0)
    network = sizes.network(in_channels=3, num_classes=10).to(device)
    x, y = torch.rand(sizes.batch, 3, 32, 32, device=device), torch.arange(sizes.batch, device=device) % 10
    model, weights = Idle(network), list(network.parameters())

    def sgd() -> torch.optim.Optimizer:
        return torch.optim.SGD(weights, lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def step_of(model: nn.Module, *plugins: Any, **options: Any) -> Callable[[], object]:
        engine = Engine(model, sgd(), plugins, ThreatModel("linf", "8/255"), **options)
        return lambda: engine.step(x, y)

    optimizer = sgd()

    def step_by_hand() -> None:
        loss = F.cross_entropy(model(x), y)
        for weight, grad in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = grad
        optimizer.step()

    steps = {
        "by_hand": step_by_hand,
        "engine": step_of(model, "clean"),
        "from_elsewhere": step_of(model, "clean", Untouched()),
        "skipping": step_of(model, "clean", nonfinite="skip"),
    }
    whole, others = step_of(network, {"pgd": {"steps": 10}}), torch.zeros(sizes.other, device=device)

    def seconds(call: Callable[[], object]) -> float:
        others.add_(1)
        begin = now(device)
        call()
        return now(device) - begin

    times: dict[str, list[float]] = {name: [] for name in (*steps, "pgd10_step")}
    for number in range(rounds + 1):
        measured = {name: median(seconds(call) for _ in range(calls)) for name, call in steps.items()}
        measured["pgd10_step"] = seconds(whole)
        for name, each in measured.items() if number else ():  # the first round warms up
            times[name].append(each)
    step = median(times["pgd10_step"])
    overheads = {
        name: median(ours - hand for ours, hand in zip(times[name], times["by_hand"], strict=True))
        for name in OVERHEADS
    }
    return {
        **{name: summary(each) for name, each in times.items()},
        "overhead_us": {name: 1e6 * each for name, each in overheads.items()},
        "share_of_step": {name: each / step for name, each in overheads.items()},
    }
