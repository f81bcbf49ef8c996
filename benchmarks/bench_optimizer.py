"""The optimizer's step in torch's three forms, for the weights of PreActResNet-18.

*plain* updates one weight after the other, *foreach* all of them operation by operation, *fused* each weight in one
pass. *prepared* is the fused form as the engine takes it, which looks at the layouts of gradients and state first. One
process, rounds interleaved; the fastest round of each. On one thread the clock is that thread's processor time: it
stands still while other processes have the core. On CUDA (``--device cuda``) a step is timed between two events of the
stream.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import torch
from common import facts, write
from devices import add_device, device_facts, stopwatch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from buttress.engine.fused import take_step
from buttress_plugins.models.preact_resnet import preact_resnet18, preact_tiny

OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.1),
    "SGD, momentum": partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "SGD, Nesterov": partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    "Adam": partial(Adam, lr=1e-3),
    "AdamW": partial(AdamW, lr=1e-3),
    "Adagrad": partial(Adagrad, lr=1e-2),
}
FORMS: dict[str, dict[str, bool]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "prepared": {"fused": True},
}


def measure(make: Any, forms: dict[str, dict[str, bool]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Form to the seconds of each round."""
    torch.manual_seed(0)
    model = network(options)(in_channels=3, num_classes=10).to(options.device)
    grads = [0.01 * torch.randn_like(weight) for weight in model.parameters()]

    def optimizer(form: dict[str, bool]) -> Optimizer:
        weights = [nn.Parameter(weight.detach().clone()) for weight in model.parameters()]
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        made: Optimizer = make(weights, **form)
        made.step()  # makes its state
        return made

    seconds = stopwatch(options.device, thread_time if options.threads == 1 else perf_counter)
    optimizers = {name: optimizer(form) for name, form in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(options.rounds + 2):
        for name, each in optimizers.items():
            spent = seconds(partial(take_step, each) if name == "prepared" else each.step)
            if number >= 2:
                times[name].append(spent)
    return times


def network(options: argparse.Namespace) -> Any:
    return preact_tiny if options.quick else preact_resnet18


def forms_of(make: Any, device: torch.device) -> dict[str, dict[str, bool]]:
    """The forms that torch has of an optimizer on a device: Adagrad is fused on the CPU alone."""
    fused = make.func is not Adagrad or device.type == "cpu"
    return {name: form for name, form in FORMS.items() if fused or "fused" not in form}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--quick", action="store_true", help="a small network instead, for tests")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {}
    for name, make in OPTIMIZERS.items():
        times = measure(make, forms_of(make, options.device), options)
        fastest = {form: min(each) for form, each in times.items()}
        results[name] = {
            form: {"fastest_s": fastest[form], "median_s": median(each), "over_plain": fastest[form] / fastest["plain"]}
            for form, each in times.items()
        }
        texts = (f"{form} {1e3 * best:.2f} ms ({best / fastest['plain']:.2f})" for form, best in fastest.items())
        print(f"{name}: {', '.join(texts)}")
    sizes = {"model": network(options).__name__, "rounds": options.rounds}
    write(options.json, facts(benchmark="bench_optimizer", **device_facts(options.device), **sizes, results=results))


if __name__ == "__main__":
    main()
