"""Weight perturbations over what memory allows, and over what one would run otherwise.

The weights are those of PreActResNet-18 that AWP and RWP perturb; directions are random, and computing gradients is not
part of it. *AWP*: perturb with a norm for each layer, and take it back. *RWP*: one inner step, a gradient added to the
sum and the weights moved by that sum at its new length, one norm for all.

Candidates: ``compiled`` and ``torch``, this project's two backends; ``proxy``, as the public codes do it: other models
load the first one's state, an optimizer steps one, differences of the weights are scaled and added; ``foreach``:
``torch._foreach_norm`` and in-place additions, weights saved and brought back by copies; ``subtract``: the same without
the copies, taken back by subtraction, which leaves rounding in the weights; ``floor``: the floats that must move (8 P
and 6 P), at the speed of a copy in the same run. All in one process, rounds interleaved; the median of the rounds and,
because other programs may share the machine, the fastest. On CUDA (``--device cuda``) a call is timed between two
events of the stream.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from statistics import median as middle
from typing import Any

import torch
from common import facts, write
from devices import Stopwatch, add_device, device_facts, stopwatch
from torch import Tensor, nn

from buttress.console.tables import table
from buttress.kernels import perturb_, restore_, rwp_first_step_, rwp_step_, use_backend
from buttress.nn.weights import matrices
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny

GAMMA, TINY = 0.01, 1e-20
PEERS = ("floor", "subtract", "foreach", "torch", "proxy")

Candidates = dict[str, Callable[[], object]]


class Proxy:
    """The way of the public codes: weights of other models, one of which its optimizer steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.start, self.stepped = (copy.deepcopy(model) for _ in range(3))
        self.optimizer = torch.optim.SGD(self.stepped.parameters(), lr=0.01)
        for weight in matrices(self.stepped):
            weight.grad = torch.randn_like(weight)
        self.total = {name: torch.zeros_like(w) for name, w in differences(self.start, self.stepped).items()}
        self.scaled = dict(self.total)

    def awp(self) -> None:
        self.stepped.load_state_dict(self.model.state_dict())
        self.optimizer.step()
        old, moves = self.model.state_dict(), differences(self.model, self.stepped)
        scaled = {name: old[name].norm() / (each.norm() + TINY) * each for name, each in moves.items()}
        add(self.model, scaled, GAMMA)
        add(self.model, scaled, -GAMMA)

    def rwp(self) -> None:
        for proxy in (self.start, self.stepped):
            proxy.load_state_dict(self.model.state_dict())
            add(proxy, self.scaled, GAMMA)
        self.optimizer.step()
        moves, old = differences(self.start, self.stepped), self.model.state_dict()
        self.total = {name: each + moves[name] for name, each in self.total.items()}
        length = torch.cat([each.view(-1) for each in self.total.values()]).norm()
        size = torch.cat([old[name].view(-1) for name in self.total]).norm()
        self.scaled = {name: size / (length + TINY) * each for name, each in self.total.items()}


def differences(model: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The differences of the tensors that AWP and RWP perturb."""
    old, new = model.state_dict(), other.state_dict()
    return {name: new[name] - old[name] for name in old if old[name].dim() > 1 and "weight" in name}


@torch.no_grad()
def add(model: nn.Module, values: dict[str, Tensor], factor: float) -> None:
    for name, weight in model.named_parameters():
        if name in values:
            weight.add_(factor * values[name])


@torch.no_grad()
def foreach_awp(weights: list[Tensor], directions: list[Tensor], saved: list[Tensor] | None = None) -> None:
    norms = zip(torch._foreach_norm(weights), torch._foreach_norm(directions), strict=True)
    scales = [GAMMA * float(w / (d + TINY)) for w, d in norms]
    if saved is not None:
        torch._foreach_copy_(saved, weights)
    for weight, direction, scale in zip(weights, directions, scales, strict=True):
        weight.add_(direction, alpha=scale)
    if saved is not None:
        torch._foreach_copy_(weights, saved)
    else:
        for weight, direction, scale in zip(weights, directions, scales, strict=True):
            weight.add_(direction, alpha=-scale)


@torch.no_grad()
def foreach_rwp(weights: list[Tensor], directions: list[Tensor], origin: list[Tensor], total: list[Tensor]) -> None:
    torch._foreach_add_(total, directions)
    size, length = (torch.stack(torch._foreach_norm(each)).norm() for each in (origin, total))
    torch._foreach_copy_(weights, origin)
    torch._foreach_add_(weights, total, alpha=GAMMA * float(size / (length + TINY)))


def copied(source: Tensor, target: Tensor) -> Callable[[], object]:
    return lambda: target.copy_(source)


def measure(candidates: Candidates, rounds: int, seconds: Stopwatch) -> dict[str, list[float]]:
    """Milliseconds of every round by candidate."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, call in candidates.items():
            spent = 1e3 * seconds(call)
            if number:  # the first round warms up
                times[name].append(spent)
    return times


def with_backend(name: str, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with use_backend(name):
            call()

    return run


def awp(model: nn.Module) -> Candidates:
    def candidate(call: Callable[..., object]) -> Callable[[], object]:
        weights = matrices(copy.deepcopy(model))
        directions, saved = [torch.randn_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
        return lambda: call(weights, directions, saved)

    def step(weights: list[Tensor], directions: list[Tensor], saved: list[Tensor]) -> None:
        perturb_(weights, directions, GAMMA, saved=saved)
        restore_(weights, saved)

    return {
        "compiled": with_backend("native", candidate(step)),
        "torch": with_backend("torch", candidate(step)),
        "foreach": candidate(foreach_awp),
        "subtract": candidate(lambda *arguments: foreach_awp(*arguments[:2])),
        "proxy": Proxy(model).awp,
    }


def rwp(model: nn.Module) -> Candidates:
    def candidate(call: Callable[..., object]) -> Callable[[], object]:
        weights = matrices(copy.deepcopy(model))
        directions = [torch.randn_like(w) for w in weights]
        origin, total = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        state = torch.zeros((2, len(weights)), dtype=torch.float64, device=weights[0].device)
        rwp_first_step_(weights, directions, origin, total, state, GAMMA)
        return lambda: call(weights, directions, origin, total, state)

    def step(*arguments: Any) -> None:
        rwp_step_(*arguments, GAMMA)

    return {
        "compiled": with_backend("native", candidate(step)),
        "torch": with_backend("torch", candidate(step)),
        "foreach": candidate(lambda *arguments: foreach_rwp(*arguments[:4])),
        "proxy": Proxy(model).rwp,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="a small network instead, for tests")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = preact_tiny if options.quick else preact_resnet18
    model = network(in_channels=3, num_classes=10).to(options.device)
    size = sum(weight.numel() for weight in matrices(model))
    flat = torch.randn(size, device=options.device)
    copy_once = copied(flat, torch.zeros_like(flat))
    results: dict[str, dict[str, dict[str, float]]] = {}
    lines = []
    for method, candidates, moved in (("AWP", awp(model), 8), ("RWP", rwp(model), 6)):
        times = measure({**candidates, "copy": copy_once}, options.rounds, stopwatch(options.device))
        times["floor"] = [ms * moved / 2 for ms in times.pop("copy")]
        for rounds, choose in (("median", middle), ("fastest", min)):
            chosen = {name: choose(each) for name, each in times.items()}
            ratios = [f"{chosen[name] / chosen['compiled']:.2f}" if name in chosen else "" for name in PEERS]
            lines.append([method, rounds, f"{chosen['compiled']:.3g}", *ratios])
            results.setdefault(method, {})[rounds] = chosen
    where = f"{options.threads} threads" if options.device.type == "cpu" else options.device
    print(f"{network.__name__}: {size:,} weights, float32, {where}, {options.rounds} rounds\n")
    header = ["method", "rounds", "compiled, ms", *(f"x over {name}" for name in PEERS)]
    print(table(header, lines))
    sizes = {"model": network.__name__, "weights": size, "rounds": options.rounds}
    write(options.json, facts(benchmark="bench_perturb", **device_facts(options.device), **sizes, ms=results))


if __name__ == "__main__":
    main()
