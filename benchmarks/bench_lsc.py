"""The compiled cross-entropy under the loss-stationary condition over what one would write otherwise.

Forward and backward of ``lsc_cross_entropy`` (``compiled``) against the mask by hand on
``F.cross_entropy(reduction="none")`` with autograd (``masked``) and against the pure-torch twin, on logits ``[B,K]`` of
which the condition keeps about half. ``graph`` is the same for the sum of one number: what starting autograd costs
whatever is in the graph, and what a training step pays anyway. ``operators`` calls the compiled operators themselves,
without autograd: on the CPU one that gives the mean, the number kept and the gradient, on CUDA forward and backward.
All in one process, rounds interleaved; medians and the fastest rounds. On CUDA (``--device cuda``) a round is timed
between two events of the stream.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from common import facts, write
from devices import add_device, device_facts, stopwatch
from torch import Tensor

from buttress.console.tables import table
from buttress.kernels import lsc_cross_entropy, use_backend

Candidate = tuple[Callable[[], object], str]
"""Function to be timed, and the backend under which it runs."""


def by_hand(logits: Tensor, targets: Tensor, c_min: float) -> tuple[Tensor, Tensor]:
    """The mask as one writes it."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    kept = losses <= c_min
    return torch.where(kept, losses, 0.0).sum() / len(losses), kept.sum()


def candidates(b: int, k: int, device: torch.device) -> dict[str, Candidate]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((b, k), generator=generator).to(device).requires_grad_()
    targets = torch.randint(0, k, (b,), generator=generator).to(device)
    c_min, one = math.log(k) + 0.5, torch.ones((), device=device)
    number = torch.ones(1, device=device, requires_grad=True)
    detached, ops = logits.detach(), torch.ops.buttress

    def fused() -> object:
        mean, _ = lsc_cross_entropy(logits, targets, c_min)
        return torch.autograd.grad(mean, logits)

    def masked() -> object:
        mean, _ = by_hand(logits, targets, c_min)
        return torch.autograd.grad(mean, logits)

    def operators() -> object:
        if device.type == "cpu":
            return ops.lsc_cross_entropy_gradient(detached, targets, c_min, True)
        mean, kept, rows = ops.lsc_cross_entropy_rows(detached, targets, c_min, True)
        return mean, kept, ops.lsc_cross_entropy_backward(one, detached, targets, rows)

    return {
        "compiled": (fused, "native"),
        "masked": (masked, "torch"),
        "twin": (fused, "torch"),
        "graph": (lambda: torch.autograd.grad(number.sum(), number), "torch"),
        "operators": (operators, "native"),
    }


def repeated(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def measure(b: int, k: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Microseconds of a call, by candidate and round."""
    repeats, seconds = max(1, 30_000 // (b * k)), stopwatch(device)  # a millisecond or two a round
    times: dict[str, list[float]] = {}
    timed = candidates(b, k, device)
    for number in range(rounds + 1):
        for name, (call, backend) in timed.items():
            with use_backend(backend):
                spent = 1e6 * seconds(partial(repeated, call, repeats)) / repeats
            if number:  # the first round warms up
                times.setdefault(name, []).append(spent)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["128x10", "128x100", "1024x1000"], metavar="BxK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results, lines = [], []
    for shape in options.shapes:
        b, k = map(int, shape.split("x"))
        times = measure(b, k, options.rounds, options.device)
        result = {"shape": [b, k]}
        for what, pick in (("median", median), ("fastest", min)):
            us = {name: pick(each) for name, each in times.items()}
            ratios = {
                "masked": us["masked"] / us["compiled"],
                "masked, above the graph": (us["masked"] - us["graph"]) / (us["compiled"] - us["graph"]),
                "masked over operators": us["masked"] / us["operators"],
                "twin": us["twin"] / us["compiled"],
            }
            result[what] = {"us": us, "ratios": ratios}
            lines.append([shape, what, *(f"{value:.1f}" for value in (*us.values(), *ratios.values()))])
        results.append(result)
    header = ["BxK", "round", *(f"{name}, us" for name in times), *(f"{name}, x" for name in ratios)]
    where = f"{options.threads} threads" if options.device.type == "cpu" else options.device
    print(f"float32, {where}, {options.rounds} rounds\n")
    print(table(header, lines))
    sizes = {**device_facts(options.device), "rounds": options.rounds}
    write(options.json, facts(benchmark="bench_lsc", **sizes, results=results))


if __name__ == "__main__":
    main()
