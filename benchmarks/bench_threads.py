"""Two threads over one, for the compiled kernels of losses and weight perturbations, over sizes.

Where sharing out costs more than it saves, a kernel should take one thread. Of each size a call on one thread and one
on more are timed in turn, ``warm`` (calls follow one another, so that the other thread is still awake) and ``cold`` (a
pause of some milliseconds before each call, as in a training step whose rest takes one thread). The medians, the
fastest rounds, and the median of the rounds' ratios: more than 1 is a loss.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from common import facts, load, ratio, write

from buttress.console.tables import table
from buttress.kernels import lsc_cross_entropy, perturb_, rwp_first_step_, rwp_step_, use_backend

LOGITS = ["128x10", "1024x10", "3000x10", "6600x10", "10000x10", "100x1000", "1024x100", "1024x1000"]
WEIGHTS = [16_384, 65_536, 81_920, 98_304, 114_688, 131_072, 262_144, 524_288, 1_048_576, 4_194_304]
PAUSE_S = 0.003

Call = Callable[[], object]


def loss_calls(b: int, k: int) -> dict[str, Call]:
    """The forward without a gradient, forward and backward, and those with an incoming gradient that is not 1."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((b, k), generator=generator)
    targets, c_min = torch.randint(0, k, (b,), generator=generator), math.log(k) + 0.5
    leaf, two = logits.clone().requires_grad_(), torch.tensor(2.0)
    return {
        "lsc, forward": lambda: lsc_cross_entropy(logits, targets, c_min),
        "lsc, gradient": lambda: torch.autograd.grad(lsc_cross_entropy(leaf, targets, c_min)[0], leaf),
        "lsc, scaled": lambda: torch.autograd.grad(lsc_cross_entropy(leaf, targets, c_min)[0], leaf, two),
    }


def perturb_calls(size: int) -> dict[str, Call]:
    """One tensor: perturbed by its own norm, and an inner step of RWP."""
    weights, directions, origin, total = ([torch.randn(size)] for _ in range(4))
    state = torch.zeros((2, 1), dtype=torch.float64)
    rwp_first_step_(weights, directions, origin, total, state, 1e-6)
    return {
        "perturb_": lambda: perturb_(weights, directions, 1e-6),
        "rwp_step_": lambda: rwp_step_(weights, directions, origin, total, state, 1e-6),
    }


def seconds(call: Call, threads: int, repeats: int, pause: float) -> float:
    """Seconds of a call, the mean of ``repeats``, after a pause or after a call that does not count."""
    torch.set_num_threads(threads)
    if pause:
        time.sleep(pause)
    else:
        call()
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def measure(call: Call, threads: int, rounds: int, pause: float) -> dict[str, list[float]]:
    """Microseconds of the rounds on one thread and on more."""
    repeats = 1 if pause else max(1, int(0.002 / seconds(call, 1, 3, 0)))
    times: dict[str, list[float]] = {"one": [], "more": []}
    for number in range(rounds + 1):
        for name, count in (("one", 1), ("more", threads)):
            spent = 1e6 * seconds(call, count, repeats, pause)
            if number:  # the first round warms up
                times[name].append(spent)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--logits", nargs="*", default=LOGITS, metavar="BxK")
    parser.add_argument("--weights", nargs="*", type=int, default=WEIGHTS, metavar="N")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results, lines = [], []
    with use_backend("native"):
        calls = {(name, shape): call for shape in options.logits for name, call in loss_calls(*sizes(shape)).items()}
        calls |= {(name, f"{size:,}"): call for size in options.weights for name, call in perturb_calls(size).items()}
        for (name, size), call in calls.items():
            for state, pause in (("warm", 0.0), ("cold", PAUSE_S)):
                times = measure(call, options.threads, options.rounds, pause)
                chosen = {kind: {"median_us": median(each), "fastest_us": min(each)} for kind, each in times.items()}
                over = ratio(times["more"], times["one"])
                results.append({"call": name, "size": size, "state": state, **chosen, "more over one": over})
                us = [f"{chosen[kind][what]:.1f}" for what in ("median_us", "fastest_us") for kind in times]
                lines.append([name, size, state, *us, f"{over:.2f}"])
    print(f"{options.threads} threads over one, {options.rounds} rounds, load {load():.1f}\n")
    print(table(["call", "size", "", "one, us", "more, us", "fastest: one", "more", "more over one"], lines))
    write(options.json, facts(benchmark="bench_threads", rounds=options.rounds, load=load(), results=results))


def sizes(shape: str) -> tuple[int, int]:
    b, k = map(int, shape.split("x"))
    return b, k


if __name__ == "__main__":
    main()
