"""The attacks that ``bench_peers.py`` compares: PGD-10 by buttress and by the peers that are installed.

Every candidate attacks a copy of one PreActResNet-18 in eval mode, on the same batch, from the images
themselves, so that the answers can be compared. A peer that cannot be imported is left out, with the reason.
"""

import copy
from collections.abc import Callable, Iterable
from importlib.metadata import version
from time import perf_counter, thread_time

import numpy as np
import torch
from common import facts, interleaved, load, parser, ratio, summary, write
from devices import stopwatch
from step.official import EPS, STEP_SIZE, STEPS, sgd
from step.problem import REAL, SMALL, Problem, Sizes
from step.settings import EAGER, SETTINGS, Setting
from step.stacks import STACKS, THREAT
from torch import Tensor, nn

from buttress import Batch, Engine
from buttress.console.tables import table

Candidate = Callable[[], Tensor]


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Candidate:
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP_SIZE, steps=STEPS, random_start=False)
    return lambda: attack(x, y)


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Candidate:
    import foolbox

    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=False)
    return lambda: attack.run(bounded, x, foolbox.criteria.Misclassification(y), epsilon=EPS)


def art_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Candidate:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=STEP_SIZE, max_iter=STEPS, batch_size=len(x), verbose=False
    )
    images, labels = x.numpy(), np.eye(10, dtype=np.float32)[y.numpy()]
    return lambda: torch.from_numpy(attack.generate(images, labels))


PEERS = {
    "torchattacks": torchattacks_pgd,
    "foolbox": foolbox_pgd,
    "adversarial-robustness-toolbox": art_pgd,
}
CPU = torch.device("cpu")
OURS = ("float32", "channels_last", "bf16", "bf16-compile")


def our_pgd(model: nn.Module, x: Tensor, y: Tensor, setting: Setting) -> Candidate:
    """The training attack, asked for between steps."""
    model, x = model.to(memory_format=setting.layout), x.contiguous(memory_format=setting.layout)
    pgd = {"pgd": {"steps": STEPS, "step_size": "2/255", "start": "none"}}
    engine = Engine(model, sgd(model), [pgd], THREAT, **setting.options)
    return lambda: engine.attack(Batch(x, y), "benchmark").x


def candidates_of(sizes: Sizes, settings: Iterable[str]) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The candidates that there are, and the reasons of those that there are not."""
    problem = Problem(STACKS["pgd-at"], sizes, CPU)
    candidates, missing = {}, {}
    for name, make in PEERS.items():
        try:
            candidates[name] = make(copy.deepcopy(problem.model).eval(), problem.x, problem.y)
        except ImportError as reason:
            missing[name] = str(reason)
    for name in settings:
        ours = our_pgd(copy.deepcopy(problem.model), problem.x, problem.y, SETTINGS[name])
        candidates[f"buttress, {name}"] = ours
    return candidates, missing


def main() -> None:
    options = parser(__doc__, rounds=9).parse_args()
    torch.set_num_threads(options.threads)
    sizes, settings = (SMALL, [name for name in OURS if name in EAGER]) if options.quick else (REAL, OURS)
    candidates, missing = candidates_of(sizes, settings)
    ours = f"buttress, {OURS[0]}"
    answer = candidates[ours]()
    differences = {name: float((attack() - answer).abs().max()) for name, attack in candidates.items()}
    seconds = stopwatch(CPU, thread_time if options.threads == 1 else perf_counter)
    times = interleaved(candidates, options.rounds, warmup=options.warmup, seconds=seconds)
    results = {
        name: {**summary(rounds), "ratio": ratio(rounds, times[ours]), "largest_difference": differences[name]}
        for name, rounds in times.items()
    }
    rows = [
        [name, f"{each['median_s']:.3f}", f"{each['ratio']:.2f}", f"{each['largest_difference']:.1e}"]
        for name, each in results.items()
    ]
    print(table(["attack", "seconds", f"over {ours}", "largest difference"], rows))
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}")
    measured = {"model": sizes.model.__name__, "batch": sizes.batch, "load": load()}
    versions = {name: version(name) for name in PEERS if name in times}
    write(options.json, facts(benchmark="bench_peers", **measured, versions=versions, attacks=results, missing=missing))


if __name__ == "__main__":
    main()
