"""Fast adversarial training on CIFAR-10: FGSM-RS, N-FGSM, GradAlign and free AT, as their public codes train.

Codes: locuslab/fast_adversarial, pdejorge/N-FGSM, tml-epfl/understanding-fast-adv-training, ashafahi/free_adv_train.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .recipe import Body, Published, Recipe
from .ro import NORMALISATION

FASTAT = "FastAT benchmark, arXiv:2604.22853, ResNet-18, 3 seeds"
# The benchmark's columns clean, PGD-50 and AutoAttack.
TARGETS = {
    "fast": (77.66, 48.27, 43.09),
    "n_fgsm": (78.59, 53.07, 47.77),
    "grad_align": (79.39, 52.87, 47.99),
    "free_at": (75.20, 48.83, 44.34),
}


def recipes() -> Iterator[Recipe]:
    bodies = {
        "fast": cyclic({"fast": {"attack_mode": "train"}}, epochs=15, lr=0.2, peak=0.5),
        "n_fgsm": cyclic({"n_fgsm": {"attack_mode": "train"}}, epochs=30, lr=0.2, peak=0.5),
        "grad_align": grad_align(),
        "free_at": free_at(),
    }
    for method, body in bodies.items():
        head = f"{method} on cifar10, linf: the setting of its public code, not run here.\n"
        head += "The numbers are those of a benchmark that trained in a setting of its own."
        values = dict(zip(("clean", "pgd-50", "aa"), TARGETS[method], strict=True))
        yield Recipe(f"cifar10/linf/{method}", head, body, Published(FASTAT, values))


def cyclic(*plugins: Any, epochs: int, lr: float, peak: float) -> Body:
    """PreActResNet-18, a learning rate that rises in a straight line until the peak and falls to 0."""
    return {
        "data": {"name": "cifar10", "validation": 0, "batch_size": 128},
        "model": {"name": "preact_resnet18", "normalize": NORMALISATION["cifar10"]},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, *plugins],
        "optimizer": {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cyclic", "peak": peak},
        "epochs": epochs,
        "evaluation": {"attack": {"pgd": {"steps": 50, "step_size": "2/255"}}, "best_by": "test"},
    }


def grad_align() -> Body:
    """The public code takes the gradient of the attack for the regulariser too, in train mode; inputs as they are."""
    fgsm = {"fgsm": {"attack_mode": "train_notrack"}}
    body = cyclic(fgsm, {"grad_align": {"lam": 0.2, "variant": "official"}}, epochs=30, lr=0.3, peak=0.4)
    return {**body, "model": {"name": "preact_resnet18"}}


def free_at() -> Body:
    """WRN-32-10, 80,000 steps, 8 on each batch, drops at 40,000 and 60,000; inputs as they are.

    The public code standardises every image by itself.
    """
    body = cyclic("free_at", epochs=26, lr=0.1, peak=0.5)
    return {
        **body,
        "data": {**body["data"], "replays": 8},
        "model": {"name": "wrn_32_10"},
        "optimizer": {**body["optimizer"], "weight_decay": 2e-4},
        "schedule": {"name": "piecewise", "milestones": [13, 19], "factor": 0.1},
    }
