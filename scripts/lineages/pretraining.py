"""Adversarial pre-training on another task and fine-tuning of all layers with a fresh head, alone and with AMP.

Source: Hendrycks, Lee, Mazeika, "Using Pre-Training Can Improve Model Robustness and Uncertainty", arXiv:1901.09960,
with its public code; the number of epochs and AMP are AT-AMP's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .digits import PGD, digits
from .recipe import Body, Published, Recipe

FIRST = "buttress train configs/digits/pretraining_rotation.yaml --run first"
FILE = "runs/digits-pretraining_rotation/first/weights/last-live.safetensors"
WIDE = "Yan et al., AT-AMP, WRN-34-10"
MEASURES = ("clean best", "pgd-20 best", "aa best")
TARGETS = {
    "pretraining": Published(WIDE, dict(zip(MEASURES, (85.56, 55.43, 53.85), strict=True))),
    "pretraining_amp": Published(WIDE, dict(zip(MEASURES, (86.36, 59.56, 56.45), strict=True))),
}
"""Numbers on CIFAR-10; none are published for CIFAR-100."""


def recipes() -> Iterator[Recipe]:
    head = "The first stage of pretraining and pretraining_amp: adversarial training to tell how far digits are turned."
    yield Recipe("digits/pretraining_rotation", head, rotation())
    for method, delta in (("pretraining", None), ("pretraining_amp", 0.3)):
        head = f"{method} on label-noise digits: a fifth of the training labels wrong on purpose.\n"
        head += f"It starts from the weights of a run on another task, which has to be made first:\n{FIRST}"
        yield Recipe(f"digits/{method}", head, fine_tuned(*amp(delta)))
    for dataset in ("cifar10", "cifar100"):
        for method, delta in (("pretraining", None), ("pretraining_amp", 0.1)):
            head = f"{method} on {dataset}, linf: the setting of its paper, not run here.\n"
            head += "It starts from a WRN-34-10 that was trained on ImageNet at 32x32 by PGD-10 at 8/255, in a file\n"
            head += "that lies beside the config. (The original code: model.name=wrn_28_10 epochs=5)"
            target = TARGETS[method] if dataset == "cifar10" else None
            yield Recipe(f"{dataset}/linf/{method}", head, cifar(dataset, *amp(delta)), target)


def amp(delta: float | None) -> list[Any]:
    return [] if delta is None else [{"amp": {"delta": delta}}]


def rotation() -> Body:
    """Rotations of the images on which the second stage trains, with right labels.

    At half the radius: at 1/10 it could not tell a digit from one on its head after 24 epochs.
    """
    body = digits(
        {"pgd": {"steps": 10, "step_size": "1/80"}},
        data={"task": "rotation", "label_noise": 0.0, "split_seed": 0},
        threat={"norm": "linf", "eps": "1/20"},
        epochs=16,
    )
    evaluation = {**body["evaluation"], "attack": {"pgd": {"steps": 20, "step_size": "1/160"}}}
    return {**body, "optimizer": {**body["optimizer"], "lr": 0.1}, "evaluation": evaluation}


def fine_tuned(*plugins: Any) -> Body:
    """A tenth of the learning rate, along a cosine; the split is that of the first stage, whatever the seed."""
    body = digits(PGD, *plugins, data={"split_seed": 0}, schedule={"name": "cosine"})
    return {
        **body,
        "model": {**body["model"], "weights": {"file": FILE, "except": ["linear"]}},
        "optimizer": {**body["optimizer"], "lr": 0.03, "nesterov": True},
    }


def cifar(dataset: str, *plugins: Any) -> Body:
    """50 epochs, inputs in [-1, 1], cosine from 0.001 to a millionth, train-mode attack."""
    half = [0.5, 0.5, 0.5]
    weights = {"file": "imagenet32_wrn_34_10.pt", "except": ["fc"]}
    pgd = {"steps": 10, "step_size": "2/255", "attack_mode": "train"}
    return {
        "data": {"name": dataset, "validation": 0, "batch_size": 128},
        "model": {"name": "wrn_34_10", "normalize": {"mean": half, "std": half}, "weights": weights},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, {"pgd": pgd}, *plugins],
        "optimizer": {"name": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        "schedule": {"name": "cosine", "final": 1e-3},
        "epochs": 50,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": "2/255"}}, "best_by": "test"},
    }
