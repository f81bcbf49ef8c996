"""Adversarial training of a network in shards (FSDP2), against one process: a toy, not a feature.

``torchrun --nproc-per-node 2 benchmarks/fsdp_toy.py`` trains a small ConvNet in float64 under ``fully_shard``, by gloo
on the CPU: PGD steps on each rank's rows, gradients of weights by ``.backward()``, the perturbations of AWP and RWP on
shards with norms that are summed over the ranks, and the median of shards. Each rank also does it with the whole
network and the whole batch, by the kernels of buttress, and the largest difference is printed. At last it asks for what
does not work, and prints the answers.
"""

import copy
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from buttress import Engine, ThreatModel
from buttress.kernels import Norm, median, perturb_

BATCH, STEPS, EPS, STEP_SIZE, LR, GAMMA = 12, 5, 0.1, 0.03, 0.1, 0.01


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        say(f"torch {torch.__version__}, {dist.get_world_size()} ranks, gloo, float64")
        steps_compared()
        medians_compared()
        attack_counted()
        refusals()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def say(text: str) -> None:
    if os.environ["RANK"] == "0":  # also after the engine has left the group
        print(text, flush=True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(45, 3)).double()


def sharded(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in shards, each layer by itself."""
    shards, mesh = copy.deepcopy(model), init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in shards.children():
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(shards, mesh=mesh)
    return shards


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(BATCH) % 3


def rows(values: Tensor) -> Tensor:
    return values[dist.get_rank() :: dist.get_world_size()]


def attacked(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """PGD; the gradient with respect to the input alone."""
    adv = x.clone()
    for _ in range(STEPS):
        adv.requires_grad_()
        (grad,) = torch.autograd.grad(cross_entropy(model(adv), y, reduction="sum"), adv)
        adv = (x + (adv.detach() + STEP_SIZE * grad.sign() - x).clamp(-EPS, EPS)).clamp(0, 1)
    return adv


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """The gradients on this rank: of the whole network, or of its shards, averaged over ranks by FSDP."""
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    return [local(weight.grad) for weight in model.parameters() if weight.grad is not None]


def local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def norms(shards: Sequence[Tensor]) -> Tensor:
    """``[n]`` L2 norms of tensors in shards: squares are summed over the ranks."""
    squares = torch.stack([shard.square().sum() for shard in shards])
    dist.all_reduce(squares)
    return squares.sqrt()


@torch.no_grad()
def perturb_shards_(shards: list[Tensor], grads: list[Tensor], norm: Norm) -> None:
    """``buttress.kernels.perturb_`` on shards."""
    sizes, lengths = norms(shards), norms(grads)
    if norm == "global":
        sizes, lengths = (torch.linalg.vector_norm(each).expand_as(each) for each in (sizes, lengths))
    for shard, grad, scale in zip(shards, grads, (GAMMA * sizes / lengths).unbind(), strict=True):
        shard.add_(grad * scale)


def step(model: nn.Module, x: Tensor, y: Tensor, norm: Norm | None, *, in_shards: bool) -> None:
    """One step of PGD-AT, with a perturbation of weights if there is a norm, and SGD after they are put back."""
    adv = attacked(model, x, y)
    weights = [local(weight.detach()) for weight in model.parameters()]
    origin = [weight.clone() for weight in weights]
    if norm is not None:
        grads = gradients(model, adv, y)
        perturb_shards_(weights, grads, norm) if in_shards else perturb_(weights, grads, GAMMA, norm=norm)
    grads = gradients(model, adv, y)
    for weight, start, grad in zip(weights, origin, grads, strict=True):
        weight.copy_(start - LR * grad)


def steps_compared() -> None:
    stacks: dict[str, Norm | None] = {"PGD-AT": None, "AWP, norm of each layer": "layer", "RWP, one norm": "global"}
    for name, norm in stacks.items():
        whole = network()
        shards = sharded(whole)
        x, y = batch()
        for _ in range(3):
            step(whole, x, y, norm, in_shards=False)
            step(shards, rows(x), rows(y), norm, in_shards=True)
        pairs = zip(shards.parameters(), whole.parameters(), strict=True)
        gap = max(float((full(one) - full(other)).abs().max()) for one, other in pairs)
        say(f"{name}, 3 steps: weights differ by at most {gap:.0e}")


def full(tensor: Tensor) -> Tensor:
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def medians_compared() -> None:
    """The median of three checkpoints on shards, against that of the whole tensors."""
    whole = [
        [weight.detach() + 0.1 * k * weight.detach().sin() for weight in network().parameters()] for k in (1, 3, 2)
    ]
    placed = list(sharded(network()).parameters())
    gap = 0.0
    for place, tensors in zip(placed, zip(*whole, strict=True), strict=True):
        chunks = [torch.chunk(tensor, dist.get_world_size())[dist.get_rank()] for tensor in tensors]
        with torch.no_grad():
            local(place.detach()).copy_(median(chunks))
        gap = max(gap, float((full(place) - median(list(tensors))).abs().max()))
    say(f"median of 3 checkpoints on shards: differs by {gap:.0e}")


class CollectiveCount(TorchDispatchMode):
    """Counts the collectives in the block by name. (torch's CommDebugMode does not bear torch.autograd.grad.)"""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            self.calls[func._opname.strip("_")] += 1
        return func(*args, **(kwargs or {}))


def attack_counted() -> None:
    """Collectives of an attack, in which weights are only read, and of the backward."""
    model, (x, y) = sharded(network()), map(rows, batch())
    for name, call in {
        f"attack of {STEPS} steps": lambda: attacked(model, x, y),
        "forward and backward": lambda: gradients(model, x, y),
    }.items():
        with CollectiveCount() as count:
            call()
        say(f"{name}, {len(list(model.parameters())) // 2} layers: {dict(count.calls)}")


def refusals() -> None:
    """The answers of torch and buttress to the doors of today."""
    x, y = map(rows, batch())

    def of_weights() -> None:
        model = sharded(network())
        torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))

    def of_kernel() -> None:
        weights = [weight.detach() for weight in sharded(network()).parameters()]
        perturb_(weights, [weight.clone() for weight in weights], GAMMA, norm="layer")
        expected = [(1 + GAMMA) * weight for weight in network().parameters()]
        gap = max(float((full(one) - other).abs().max()) for one, other in zip(weights, expected, strict=True))
        say(f"  (differs from one process by {gap:.0e})")

    def of_engine() -> None:
        model = sharded(network())
        optimizer = torch.optim.SGD(model.parameters(), LR)
        plugins = [{"pgd": {"steps": STEPS, "step_size": STEP_SIZE}}]
        Engine(model, optimizer, plugins, ThreatModel("linf", EPS)).step(*batch())

    ask("torch.autograd.grad of weights", of_weights)
    ask("buttress.kernels.perturb_ on DTensors", of_kernel)
    ask("a step of the engine", of_engine)


def ask(name: str, call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as problem:
        say(f"{name}: {type(problem).__name__}: {(str(problem).splitlines() or [''])[0]}")
    else:
        say(f"{name}: no error")


if __name__ == "__main__":
    main()
