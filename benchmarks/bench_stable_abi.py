"""Compare the cost of operators in torch's stable ABI with that of its C++ interface, by operators that do nothing.

*Lists*: an operator with four lists of 62 tensors, as a step of RWP has, which reads of every tensor what the checks
read. *Loss*: the two operators of ``lsc_cross_entropy`` at 128x10, which make their results and leave them empty.
*Gradient*: forward and backward of such a loss by ``torch.library.register_autograd``, the one way in the stable ABI,
over ``buttress.kernels.lsc_cross_entropy``, which has nodes of autograd in C++ and computes. Rounds interleaved; the
median of the rounds, and of their ratios. Both probes are compiled by this file.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import facts, ratio, write
from devices import stopwatch
from torch import Tensor
from torch.utils.cpp_extension import load

from buttress.console.tables import table
from buttress.kernels import lsc_cross_entropy, use_backend

SOURCES = Path(__file__).with_name("stable_abi")
TENSORS = 62


def compiled(name: str, *flags: str) -> Any:
    """The operators of a file of ``stable_abi``."""
    load(f"probe_{name}", [str(SOURCES / f"{name}.cpp")], ["-std=c++20", "-O3", *flags], is_python_module=False)
    return getattr(torch.ops, f"probe_{name}")


def with_gradient(probe: Any) -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, kept, rows = output
        ctx.save_for_backward(*inputs[:2], rows)
        ctx.mark_non_differentiable(kept, rows)

    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return probe.loss_backward(grad, *ctx.saved_tensors), None, None, None

    torch.library.register_autograd("probe_stable::loss", backward, setup_context=setup)


def candidates(classic: Any, stable: Any) -> dict[str, dict[str, Callable[[], object]]]:
    """By comparison, what there is in C++, and then the same in the stable ABI."""
    lists = [[torch.ones(16, 16) for _ in range(TENSORS)] for _ in range(4)]
    logits, targets, rows, one = torch.randn(128, 10), torch.randint(0, 10, (128,)), torch.empty(128, 2), torch.ones(())
    leaf, c_min = logits.clone().requires_grad_(), math.log(10) + 0.5

    def loss(probe: Any) -> object:
        return probe.loss(logits, targets, c_min, True), probe.loss_backward(one, logits, targets, rows)

    def gradient(forward: Callable[..., tuple[Tensor, ...]], *more: Any) -> object:
        return torch.autograd.grad(forward(leaf, targets, c_min, *more)[0], leaf)

    return {
        "lists": {
            name: partial(probe.step, *lists, 0.1, "global") for name, probe in (("C++", classic), ("stable", stable))
        },
        "loss": {"C++": partial(loss, classic), "stable": partial(loss, stable)},
        "gradient": {"C++": partial(gradient, lsc_cross_entropy), "stable": partial(gradient, stable.loss, True)},
    }


def repeated(call: Callable[[], object], times: int = 500) -> None:
    for _ in range(times):
        call()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    classic, stable = compiled("classic"), compiled("stable", "-DTORCH_TARGET_VERSION=0x020b000000000000")
    with_gradient(stable)
    seconds, results, lines = stopwatch(torch.device("cpu")), {}, []
    for what, calls in candidates(classic, stable).items():
        times: dict[str, list[float]] = {name: [] for name in calls}
        with use_backend("native"):
            for _ in range(options.rounds):
                for name, call in calls.items():
                    times[name].append(1e6 * seconds(partial(repeated, call)) / 500)
        results[what] = {name: {"median_us": median(each), "fastest_us": min(each)} for name, each in times.items()}
        results[what]["stable over C++"] = ratio(times["stable"], times["C++"])
        us = [f"{pick(times[name]):.1f}" for pick in (median, min) for name in calls]
        lines.append([what, *us, f"{results[what]['stable over C++']:.2f}"])
    print(table(["", "C++, us", "stable, us", "fastest: C++", "stable", "stable over C++"], lines))
    write(options.json, facts(benchmark="bench_stable_abi", tensors=TENSORS, rounds=options.rounds, results=results))


if __name__ == "__main__":
    main()
