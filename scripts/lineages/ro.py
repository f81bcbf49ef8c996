"""The lineage of robust overfitting (Rice et al.): AT, AMP, AWP, RWP, RAT, regularisers, CFA, and RAT's diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .papers import SETTINGS, of_paper
from .recipe import Body, Recipe

NORMALISATION = {
    "cifar10": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2471, 0.2435, 0.2616]},
    "cifar100": {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762]},
    "svhn": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
AUGMENT: dict[str, dict[str, Any] | None] = {
    "cifar10": {"pad": 4, "padding": "reflect"},
    "cifar100": {"pad": 4, "padding": "zeros", "rotation": 15.0},
    "svhn": None,
}
C_MIN = {"cifar10": 1.7, "cifar100": 4.0, "svhn": 2.2}
AWP_START = {("svhn", "linf"): 5}  # the public code's warm-up, also of RWP and RAT_WP
SWEEPS = {"fix_param": "freeze_layers", "fix_lr": "rat_lr", "awp_layers": "rat_wp"}
"""Diagnostics of Nguyen et al., TMLR 2024, section 3, over sets of layer groups; the plugin that takes the set."""


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        for method, plugins in stacks(dataset, norm).items():
            yield of_paper("RO", method, dataset, norm, ro(dataset, norm, *plugins))
    yield of_paper("RO", "cfa", "cifar10", "linf", cfa())
    for method, plugin in SWEEPS.items():
        settings: dict[str, Any] = {"layers": [3, 4], **({"gamma": 0.01} if plugin == "rat_wp" else {})}
        head = "A diagnostic of Nguyen et al., TMLR 2024, section 3, over sets of layer groups, not run here:"
        head += f"\nbuttress compare configs/cifar10/linf/at.yaml configs/cifar10/linf/{method}.yaml \\"
        head += f"\n  '{plugin}.layers=[4],[3,4],...'"
        yield Recipe(f"cifar10/linf/{method}", head, ro("cifar10", "linf", {plugin: settings}))


def stacks(dataset: str, norm: str) -> dict[str, list[Any]]:
    """The plugins of each method beside the attack."""
    return {
        "at": [],
        "amp": [{"amp": {"delta": 0.1}}],
        "awp": [weights("awp", dataset, norm)],
        "rwp": [weights("rwp", dataset, norm, c_min=C_MIN[dataset], k2=10)],
        "rat_lr": [{"rat_lr": {"layers": [3, 4]}}],
        "rat_wp": [weights("rat_wp", dataset, norm, layers=[3, 4])],
        "l1": [{"l1": {"weight": 5e-6}}],
        "l2": [{"l2_groups": {"weight_decay": 5e-3}}],
        "mixup": [{"mixup": {"alpha": 1.4}}],
        "cutout": [{"cutout": {"size": 14}}],
    }


CFA_CODE: dict[str, Any] = {"steps": 10, "step_size": "2/255", "begin": 10, "clean_forwards": 2, "class_size": "mean"}
"""CFA's public code for TRADES."""
FAWA_CODE = {"threshold": 0.2, "attack": "pgd"}
"""The average of CFA's public code, with the threshold of its instructions."""


def cfa() -> Body:
    """CFA's public code for TRADES, and FAWA on 100 images of each class, which are held out; drops by epoch."""
    body = ro("cifar10", "linf", {"fawa": FAWA_CODE})
    augment, _, fawa = body["plugins"]
    return {
        **body,
        "data": {**body["data"], "validation": 1000},
        "plugins": [augment, {"cfa": CFA_CODE}, fawa],
        "schedule": {"name": "piecewise", "milestones": [100, 150], "factor": 0.1},
    }


def weights(name: str, dataset: str, norm: str, **settings: Any) -> dict[str, Any]:
    """A perturbation of the weights with its settings."""
    start = AWP_START.get((dataset, norm))
    return {name: {"gamma": 0.01, **settings, **({"start": start} if start else {})}}


def as_printed(dataset: str, norm: str, *plugins: Any, **attack: Any) -> Body:
    """The lineage as its papers print it: learning rate 0.1 on SVHN too, where the code has 0.01."""
    body = ro(dataset, norm, *plugins, **attack)
    return {**body, "optimizer": {**body["optimizer"], "lr": 0.1}}


def ro(dataset: str, norm: str, *plugins: Any, **attack: Any) -> Body:
    """200 epochs, drops at 100 and 150 within the epoch before, train-mode attack; with changes of its PGD."""
    step = "15/255" if norm == "l2" else "1/255" if dataset == "svhn" else "2/255"
    augment = AUGMENT[dataset]
    pgd = {"steps": 10, "step_size": step, "attack_mode": "train", **attack}
    return {
        "data": {"name": dataset, "validation": 0, "batch_size": 128},
        "model": {"name": "preact_resnet18", "normalize": NORMALISATION[dataset]},
        "threat": {"norm": norm, "eps": "128/255" if norm == "l2" else "8/255"},
        "plugins": [*([{"augment": augment}] if augment else []), {"pgd": pgd}, *plugins],
        "optimizer": {"name": "sgd", "lr": 0.01 if dataset == "svhn" else 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "piecewise", "milestones": [100, 150], "factor": 0.1, "per": "batch"},
        "epochs": 200,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": step}}, "best_by": "test"},
    }
