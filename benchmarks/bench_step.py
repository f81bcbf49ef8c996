"""The engine's training step over that of the common hand-written PGD-AT loop.

The hand-written loop is the one found in most scripts: its attack calls ``loss.backward()`` and so computes the
gradients of all weights in each of its ten steps, and throws them away. The engine differentiates with respect to the
input only. Both sides: PreActResNet-18, 32x32, batch 32, PGD-10 L-inf 8/255 with step 2/255 in eval mode, SGD with
momentum and weight decay, the same random start, in the same memory format; one process, rounds interleaved, the
median of the rounds' ratios. With channels_last the loop in the plain format, which is what most scripts run, is timed
too. Before timing, one step of each from equal weights: the largest differences of their adversarial examples from the
engine's are printed.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from common import facts, summary, write
from torch import Tensor, nn

from buttress import Engine, ThreatModel
from buttress_plugins.models.preact_resnet import preact_resnet18

EPS, STEP, STEPS, BATCH = 8 / 255, 2 / 255, 10, 32


def hand_written_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, start: Tensor
) -> Tensor:
    """One step as everybody writes it; returns the adversarial examples."""
    model.eval()
    x_adv = (x + start).detach()
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = F.cross_entropy(model(x_adv), y)
        model.zero_grad()
        loss.backward()
        x_adv = x_adv.detach() + STEP * x_adv.grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(x_adv), y).backward()
    optimizer.step()
    return x_adv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--channels-last", action="store_true", help="on both sides; the plain loop is timed as well")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format

    torch.manual_seed(0)
    plain = preact_resnet18(in_channels=3, num_classes=10)
    ours, theirs = (copy.deepcopy(plain).to(memory_format=layout) for _ in range(2))
    plain_x = torch.rand(BATCH, 3, 32, 32)
    y = torch.randint(10, (BATCH,))
    plain_start = (plain_x + torch.empty_like(plain_x).uniform_(-EPS, EPS)).clamp(0, 1) - plain_x
    x, start = plain_x.contiguous(memory_format=layout), plain_start.contiguous(memory_format=layout)

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    threat = ThreatModel("linf", "8/255")
    engine = Engine(ours, sgd(ours), [{"pgd": {"steps": STEPS, "step_size": "2/255"}}], threat)
    theirs_sgd, plain_sgd = sgd(theirs), sgd(plain)

    adv = engine.step(x, y, draws={"pgd.start": start}).adv.x
    others = {"hand-written": hand_written_step(theirs, theirs_sgd, x, y, start)}
    candidates: dict[str, Callable[[], object]] = {
        "engine": lambda: engine.step(x, y, draws={"pgd.start": start}),
        "hand-written": lambda: hand_written_step(theirs, theirs_sgd, x, y, start),
    }
    if options.channels_last:
        candidates["hand-written, plain format"] = lambda: hand_written_step(plain, plain_sgd, plain_x, y, plain_start)
        others["hand-written, plain format"] = hand_written_step(plain, plain_sgd, plain_x, y, plain_start)
    differences = {name: float((adv - other).abs().max()) for name, other in others.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(options.warmup + options.rounds):
        for name, step in candidates.items():
            begin = perf_counter()
            step()
            if number >= options.warmup:
                times[name].append(perf_counter() - begin)

    ratios = {
        name: median(ours / other for ours, other in zip(times["engine"], rounds, strict=True))
        for name, rounds in times.items()
        if name != "engine"
    }
    layout_name = "channels_last" if options.channels_last else "contiguous"
    print(
        f"{layout_name}, {options.threads} threads, {options.rounds} rounds: engine {median(times['engine']):.3f} s; "
        + "; ".join(
            f"over {name} ({median(times[name]):.3f} s): {ratio:.3f}, adversarial examples differ by at most "
            f"{differences[name]:.1e}"
            for name, ratio in ratios.items()
        )
    )
    result = facts(
        benchmark="bench_step",
        model="preact_resnet18",
        batch=BATCH,
        attack=f"PGD-{STEPS}, eval mode",
        memory_format=layout_name,
        largest_difference_of_adversarial_examples=differences,
        times={name: summary(rounds) for name, rounds in times.items()},
        median_of_ratios=ratios,
    )
    write(options.json, result)


if __name__ == "__main__":
    main()
