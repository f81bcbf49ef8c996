"""The toy experiment of the PIAT paper (section III-A): does robust accuracy oscillate less with PIAT than with PGD-AT?

Two noisy concentric circles in three dimensions, a network with one hidden layer, SGD with momentum 0.9 and learning
rate 0.5, 50 epochs, robust test accuracy after every epoch. The paper's constants are not recoverable: this is a
reconstruction, and every constant is an option of the data set or of this script. Oscillation is the mean absolute
change of robust accuracy from one epoch to the next, and its standard deviation over the second half of the run.
"""

import argparse
import functools
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from common import facts, write
from matplotlib.figure import Figure
from torch import nn

from buttress import Data, Engine, ThreatModel
from buttress.console.tables import table
from buttress.data.order import epoch_order
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator
from buttress_plugins.data.circles import Circles

METHODS: dict[str, list[Any]] = {"PGD-AT": [], "PIAT": ["piat"]}


def robust_curve(data: Data, extra: list[Any], seed: int, options: argparse.Namespace) -> list[float]:
    """Robust test accuracy after each epoch."""
    torch.manual_seed(seed)
    features = data.train.x.shape[1]
    model = nn.Sequential(nn.Linear(features, options.hidden), nn.ReLU(), nn.Linear(options.hidden, 2))
    threat = ThreatModel("linf", options.eps, box=None)
    attack = {"pgd": {"steps": options.steps, "step_size": options.step_size}}
    sgd = functools.partial(torch.optim.SGD, lr=options.lr, momentum=0.9)
    engine = Engine(model, sgd, [attack, *extra], threat, seed=seed, epochs=options.epochs)
    evaluator = Evaluator(model, load_attack(attack), threat, batch_size=len(data.test))
    curve = []
    for epoch in range(options.epochs):
        for batch in data.train.batches(epoch_order(len(data.train), seed, epoch), options.batch_size):
            engine.step(batch.x, batch.y)
        engine.end_epoch()
        curve.append(evaluator.score(data.test).robust)
    return curve


def oscillation(curve: list[float]) -> tuple[float, float]:
    """Mean absolute change between epochs, and standard deviation over the second half, in points."""
    changes = [abs(after - before) for before, after in pairwise(curve)]
    return 100 * mean(changes), 100 * stdev(curve[len(curve) // 2 :])


def draw(curves: dict[str, list[list[float]]], path: Path) -> None:
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for axis, (method, runs), colour in zip(axes, curves.items(), ("#000000", "#D55E00"), strict=True):
        for curve in runs:
            axis.plot(range(1, len(curve) + 1), [100 * value for value in curve], color=colour, alpha=0.5, linewidth=1)
        axis.set_title(f"{method}, {len(runs)} seeds", fontsize=10)
        axis.set_xlabel("epochs trained")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("robust test accuracy, %")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--eps", default="3/10")
    parser.add_argument("--step-size", default="3/40")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    curves = {
        method: [robust_curve(Circles().load(seed), extra, seed, options) for seed in range(options.seeds)]
        for method, extra in METHODS.items()
    }
    rows = []
    for method, runs in curves.items():
        changes, deviations = zip(*map(oscillation, runs), strict=True)
        last = [100 * curve[-1] for curve in runs]
        rows.append([method, *(f"{mean(each):.2f} +- {stdev(each):.2f}" for each in (changes, deviations, last))])
    print(table(["method", "change between epochs", "deviation, second half", "last"], rows))
    paired = [oscillation(one)[0] - oscillation(two)[0] for one, two in zip(*curves.values(), strict=True)]
    wins = sum(value > 0 for value in paired)
    print(f"\nPoints of robust test accuracy, {options.seeds} seeds; PIAT oscillates less in {wins} of {len(paired)}.")
    if options.picture:
        draw(curves, options.picture)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "picture")}
    write(options.json, facts(benchmark="toy_oscillation", settings=settings, curves=curves))


if __name__ == "__main__":
    main()
