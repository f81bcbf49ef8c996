"""The engine's training step over that of the common hand-written PGD-AT loop.

The hand-written loop is the one found in most scripts: its attack calls ``loss.backward()`` and so computes the
gradients of all weights in each of its ten steps, and throws them away. The engine differentiates with respect to the
input only. Both sides: PreActResNet-18, 32x32, batch 32, PGD-10 L-inf 8/255 with step 2/255 in eval mode, SGD with
momentum and weight decay, the same random start, in the same memory format; one process, rounds interleaved. Before
timing, one step of each from equal weights: the largest difference of their adversarial examples is printed.
"""

import argparse
import copy
from pathlib import Path
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
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format

    torch.manual_seed(0)
    ours = preact_resnet18(in_channels=3, num_classes=10).to(memory_format=layout)
    theirs = copy.deepcopy(ours)
    x = torch.rand(BATCH, 3, 32, 32).contiguous(memory_format=layout)
    y = torch.randint(10, (BATCH,))
    start = ((x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1) - x).contiguous(memory_format=layout)

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    threat = ThreatModel("linf", "8/255")
    engine = Engine(ours, sgd(ours), [{"pgd": {"steps": STEPS, "step_size": "2/255"}}], threat)
    optimizer = sgd(theirs)

    adv = engine.step(x, y, draws={"pgd.start": start}).adv.x
    difference = float((adv - hand_written_step(theirs, optimizer, x, y, start)).abs().max())
    times: dict[str, list[float]] = {"engine": [], "hand-written": []}
    for _ in range(options.rounds):
        begin = perf_counter()
        engine.step(x, y, draws={"pgd.start": start})
        middle = perf_counter()
        hand_written_step(theirs, optimizer, x, y, start)
        times["engine"].append(middle - begin)
        times["hand-written"].append(perf_counter() - middle)

    result = facts(
        benchmark="bench_step",
        model="preact_resnet18",
        batch=BATCH,
        attack=f"PGD-{STEPS}, eval mode",
        memory_format="channels_last" if options.channels_last else "contiguous",
        largest_difference_of_adversarial_examples=difference,
        **{name: summary(rounds) for name, rounds in times.items()},
    )
    ratio = result["engine"]["median_s"] / result["hand-written"]["median_s"]
    result["ratio"] = ratio
    print(
        f"{result['memory_format']}, {options.threads} threads, {options.rounds} rounds: engine "
        f"{result['engine']['median_s']:.3f} s, hand-written {result['hand-written']['median_s']:.3f} s, "
        f"ratio {ratio:.3f}; largest difference of the adversarial examples {difference:.1e}"
    )
    write(options.json, result)


if __name__ == "__main__":
    main()
