"""Write the recipes under configs/: every method at its paper's setting, and on digits. A test compares them with this.

Settings: RO lineage (Rice et al. and what builds on it: AMP, AWP, RWP, RAT) and TRADES lineage (TRADES, MART, ALP,
PIAT), as the methods' papers and public codes give them. Published numbers stand in ``targets``: nobody has measured
them here.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parent.parent / "configs"

NORMALISATION = {
    "cifar10": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2471, 0.2435, 0.2616]},
    "cifar100": {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762]},
    "svhn": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
RO_AUGMENT: dict[str, dict[str, Any] | None] = {
    "cifar10": {"pad": 4, "padding": "reflect"},
    "cifar100": {"pad": 4, "padding": "zeros", "rotation": 15.0},
    "svhn": None,
}
C_MIN = {"cifar10": 1.7, "cifar100": 4.0, "svhn": 2.2}
AWP_START = {("svhn", "linf"): 5}  # the public code's warm-up, also of RWP and RAT_WP


def threat(norm: str, lineage: str, dataset: str) -> dict[str, Any]:
    eps = "128/255" if norm == "l2" else ("8/255" if lineage == "ro" else 0.031)
    return {"norm": norm, "eps": eps}


def step_size(norm: str, lineage: str, dataset: str) -> str | float:
    if norm == "l2":
        return "15/255"
    if lineage == "trades":
        return 0.007
    return "1/255" if dataset == "svhn" else "2/255"


def ro(dataset: str, norm: str, *plugins: Any, pgd: dict[str, Any] | None = None) -> dict[str, Any]:
    """The RO lineage: 200 epochs, drops at 100 and 150 within the epoch before, train-mode attack."""
    step = step_size(norm, "ro", dataset)
    augment = RO_AUGMENT[dataset]
    attack = {"steps": 10, "step_size": step, "attack_mode": "train", **(pgd or {})}
    return {
        "data": {"name": dataset, "validation": 0, "batch_size": 128},
        "model": {"name": "preact_resnet18", "normalize": NORMALISATION[dataset]},
        "threat": threat(norm, "ro", dataset),
        "plugins": [*([{"augment": augment}] if augment else []), {"pgd": attack}, *plugins],
        "optimizer": {"name": "sgd", "lr": 0.01 if dataset == "svhn" else 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "piecewise", "milestones": [100, 150], "factor": 0.1, "per": "batch"},
        "epochs": 200,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": step}}, "best_by": "test"},
    }


def trades_lineage(
    dataset: str, norm: str, *plugins: Any, epochs: int, schedule: dict[str, Any], lr: float, decay: float, **pgd: Any
) -> dict[str, Any]:
    """The TRADES lineage: no normalisation, crop and flip, eval-mode attack, learning rate by epoch."""
    attack = {"steps": 10, "step_size": step_size(norm, "trades", dataset), "attack_mode": "eval", **pgd}
    test_step = "15/255" if norm == "l2" else 0.003
    return {
        "data": {"name": dataset, "validation": 0, "batch_size": 128},
        "model": {"name": "preact_resnet18"},
        "threat": threat(norm, "trades", dataset),
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, {"pgd": attack}, *plugins],
        "optimizer": {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": decay},
        "schedule": schedule,
        "epochs": epochs,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": test_step}}, "best_by": "test"},
    }


def piat_lineage(dataset: str, norm: str, *plugins: Any, **pgd: Any) -> dict[str, Any]:
    """120 epochs, constant until 60, then linear to a tenth at 90 and a hundredth at the end."""
    schedule = {"name": "linear", "knots": [60, 90], "factors": [1.0, 0.1], "final": 0.01}
    recipe = trades_lineage(dataset, norm, *plugins, epochs=120, schedule=schedule, lr=0.01, decay=3.5e-3, **pgd)
    if norm == "linf":  # PIAT's tables do not say .031; 8/255 and 2/255 are the project's default
        recipe["threat"]["eps"], recipe["plugins"][1]["pgd"]["step_size"] = "8/255", "2/255"
        recipe["evaluation"]["attack"]["pgd"]["step_size"] = "2/255"
    return recipe


def meat(dataset: str, norm: str) -> dict[str, Any]:
    """WRN-34-10, 120 epochs: constant until 40, linear to a tenth at 80 and a hundredth at the end; MEAT from 60."""
    recipe = ro(dataset, norm, {"meat": {"start": 60}}, pgd={"attack_mode": "eval"})
    recipe["model"]["name"] = "wrn_34_10"
    recipe["optimizer"]["lr"] = 0.1
    recipe["schedule"] = {"name": "linear", "knots": [40, 80], "factors": [1.0, 0.1], "final": 0.01}
    recipe["epochs"] = 120
    return recipe


def by_instance(dataset: str, norm: str, attack: str, settings: dict[str, Any], *plugins: Any) -> dict[str, Any]:
    """FAT and GAIRAT: 120 epochs, a tenth, a hundredth and a 200th from epochs 59, 89 and 109 on; MEAT's WRN-34-10."""
    knots, factors = [58, 59, 88, 89, 108, 109], [1.0, 0.1, 0.1, 0.01, 0.01, 0.005]
    drops = {"name": "linear", "knots": knots, "factors": factors, "final": 0.005}
    made = trades_lineage(dataset, norm, *plugins, epochs=120, schedule=drops, lr=0.1, decay=2e-4)
    made["model"]["name"] = "wrn_34_10"
    made["plugins"][1] = {attack: {**made["plugins"][1]["pgd"], **settings}}
    made["evaluation"]["attack"]["pgd"]["step_size"] = 0.00775  # .031 / 4
    return made


def mail(dataset: str, norm: str) -> dict[str, Any]:
    """MAIL's public code, its TRADES form: ResNet-18, weights from the first drop on."""
    drops = {"name": "piecewise", "milestones": [75, 90, 100], "factor": 0.1}
    settings = {"form": "trades", "beta": 5.0, "start": 75}
    options: dict[str, Any] = {"epochs": 120, "schedule": drops, "lr": 0.01, "decay": 3.5e-3}
    return trades_lineage(dataset, norm, {"mail": settings}, **options, loss="kl", start="gaussian")


def piat_mail(dataset: str, norm: str) -> dict[str, Any]:
    """PIAT's WRN-32-10: 180 epochs, constant until 90, linear to a tenth at 135 and a hundredth at the end."""
    settings = {"form": "trades", "beta": 5.0, "start": 0.625}  # the share of its own 120 epochs
    made = piat_lineage(dataset, norm, "piat", {"mail": settings}, loss="kl", start="gaussian")
    made["model"]["name"] = "wrn_32_10"
    made["optimizer"] = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 7e-4}
    made["schedule"] = {"name": "linear", "knots": [90, 135], "factors": [1.0, 0.1], "final": 0.01}
    made["epochs"] = 180
    return made


def idbh(dataset: str, norm: str) -> dict[str, Any]:
    """The setting of the IDBH paper on WRN-34-10; its transform takes the place of crops and flips."""
    recipe = ro(dataset, norm)
    recipe["model"]["name"] = "wrn_34_10"
    recipe["plugins"] = [idbh_of(dataset), *(each for each in recipe["plugins"] if "augment" not in each)]
    return recipe


def meat_idbh(dataset: str, norm: str) -> dict[str, Any]:
    recipe = meat(dataset, norm)
    recipe["plugins"] = [idbh_of(dataset), *(each for each in recipe["plugins"] if "augment" not in each)]
    return recipe


def idbh_of(dataset: str) -> dict[str, Any]:
    return {"idbh": {"variant": "svhn" if dataset == "svhn" else "weak"}}


def consistency(dataset: str, norm: str) -> dict[str, Any]:
    """CCG on MEAT's WRN-34-10: 2 x 128 augmented images a batch, AutoAugment from half-time on, attack in eval mode."""
    recipe = ro(dataset, norm, pgd={"attack_mode": "eval"})
    recipe["model"]["name"] = "wrn_34_10"
    augment, *rest = recipe["plugins"]
    recipe["plugins"] = ["consistency", augment, "autoaugment", *rest]
    return recipe


def weights(name: str, dataset: str, norm: str, **settings: Any) -> dict[str, Any]:
    start = AWP_START.get((dataset, norm))
    return {name: {"gamma": 0.01, **settings, **({"start": start} if start else {})}}


def published(method: str, dataset: str, norm: str) -> dict[str, Any]:
    """The recipe of one of the methods ``PUBLISHED``."""
    if method == "consistency":
        return consistency(dataset, norm)
    if method == "mail":
        return mail(dataset, norm)
    if method == "piat_mail":
        return piat_mail(dataset, norm)
    if method == "gairat":
        return by_instance(dataset, norm, "gairat", {"begin": 59})
    ensembles = [{"meat": {"start": 60}}] if method == "meat_fat" else []
    return by_instance(dataset, norm, "fat", {"rises": [50, 90]}, *ensembles)


def recipe(method: str, dataset: str, norm: str) -> dict[str, Any]:
    gaussian = {"start": "gaussian"}
    if method == "trades":
        drops = {"name": "piecewise", "milestones": [74], "factor": 0.1}
        options: dict[str, Any] = {"epochs": 76, "schedule": drops, "lr": 0.1, "decay": 2e-4, "loss": "kl"}
        made = trades_lineage(dataset, norm, {"trades": {"beta": 6.0}}, **options, **gaussian)
        made["model"]["name"] = "wrn_34_10"
        return made
    if method == "mart":
        drops = {"name": "piecewise", "milestones": [74, 89, 99], "factor": 0.1}
        return trades_lineage(
            dataset, norm, {"mart": {"lam": 5.0}}, epochs=120, schedule=drops, lr=0.01, decay=3.5e-3, **gaussian
        )
    if method == "piat_nmse":
        return piat_lineage(dataset, norm, "piat", {"nmse": {"mu": 4.0}})
    if method == "alp":
        return piat_lineage(dataset, norm, {"alp": {"weight": 0.5}})
    if method in PUBLISHED:
        return published(method, dataset, norm)
    if method in ("meat", "meat_idbh", "idbh"):
        return {"meat": meat, "meat_idbh": meat_idbh, "idbh": idbh}[method](dataset, norm)
    plugins: dict[str, list[Any]] = {
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
    return ro(dataset, norm, *plugins[method])


METHODS = (
    "at", "trades", "mart", "alp", "piat_nmse", "meat", "amp", "awp", "rwp", "rat_lr", "rat_wp", "l1", "l2", "mixup",
    "cutout", "idbh", "meat_idbh",
)  # fmt: skip

RO_LINEAGE = {*METHODS, "consistency"} - {"trades", "mart", "alp", "piat_nmse"}

# Methods that have a recipe only where the papers of MEAT and PIAT publish a number.
PUBLISHED = ("fat", "meat_fat", "gairat", "mail", "piat_mail", "consistency")

RWP_PAPER = "Yu et al., arXiv:2205.14826, PreActResNet-18"
PIAT_PAPER = "Liu et al., arXiv:2511.00836, ResNet-18"
AMP_PAPER = "Yan et al., AT-AMP, PreActResNet-18, 5 runs"
RAT_PAPER = "Nguyen et al., TMLR 2024, PreActResNet-18"
MEAT_PAPER = "Hu et al., arXiv:2406.14259, WRN-34-10"
PIAT_WIDE = "Liu et al., arXiv:2511.00836, WRN-32-10"
# PGD-20 accuracy in %: best, last (None: not published). (method, data set, norm) in the papers named.
TARGETS: dict[tuple[str, str, str], tuple[str, float, float | None]] = {
    ("at", "svhn", "linf"): (RWP_PAPER, 53.36, 44.49),
    ("at", "cifar10", "linf"): (RWP_PAPER, 52.79, 44.44),
    ("at", "cifar100", "linf"): (RWP_PAPER, 27.22, 20.82),
    ("at", "svhn", "l2"): (RWP_PAPER, 66.87, 65.03),
    ("at", "cifar10", "l2"): (RWP_PAPER, 69.15, 65.93),
    ("at", "cifar100", "l2"): (RWP_PAPER, 41.33, 35.27),
    ("awp", "svhn", "linf"): (RWP_PAPER, 59.12, 55.87),
    ("awp", "cifar10", "linf"): (RWP_PAPER, 55.39, 54.73),
    ("awp", "cifar100", "linf"): (RWP_PAPER, 30.71, 30.28),
    ("awp", "svhn", "l2"): (RWP_PAPER, 72.57, 67.73),
    ("awp", "cifar10", "l2"): (RWP_PAPER, 72.69, 72.08),
    ("awp", "cifar100", "l2"): (RWP_PAPER, 45.60, 44.66),
    ("rwp", "svhn", "linf"): (RWP_PAPER, 61.15, 57.45),
    ("rwp", "cifar10", "linf"): (RWP_PAPER, 58.55, 58.01),
    ("rwp", "cifar100", "linf"): (RWP_PAPER, 31.17, 30.64),
    ("rwp", "svhn", "l2"): (RWP_PAPER, 73.35, 69.48),
    ("rwp", "cifar10", "l2"): (RWP_PAPER, 74.47, 73.84),
    ("rwp", "cifar100", "l2"): (RWP_PAPER, 45.71, 45.05),
    ("amp", "svhn", "linf"): (AMP_PAPER, 58.47, 57.38),
    ("amp", "svhn", "l2"): (AMP_PAPER, 72.36, 67.86),
    ("amp", "cifar10", "linf"): (AMP_PAPER, 53.85, 53.26),
    ("amp", "cifar10", "l2"): (AMP_PAPER, 71.25, 71.13),
    ("amp", "cifar100", "linf"): (AMP_PAPER, 30.52, 29.69),
    ("amp", "cifar100", "l2"): (AMP_PAPER, 44.93, 44.63),
    ("l1", "cifar10", "linf"): (AMP_PAPER, 51.92, 48.74),
    ("l2", "cifar10", "linf"): (AMP_PAPER, 51.71, 47.38),
    ("mixup", "cifar10", "linf"): (AMP_PAPER, 52.83, 49.76),
    ("cutout", "cifar10", "linf"): (AMP_PAPER, 52.79, 50.35),
    ("l1", "cifar10", "l2"): (AMP_PAPER, 67.96, 63.73),
    ("l2", "cifar10", "l2"): (AMP_PAPER, 67.87, 63.69),
    ("mixup", "cifar10", "l2"): (AMP_PAPER, 70.19, 68.27),
    ("cutout", "cifar10", "l2"): (AMP_PAPER, 69.56, 67.59),
    ("rat_lr", "cifar10", "linf"): (RAT_PAPER, 51.57, 49.07),
    ("rat_lr", "cifar10", "l2"): (RAT_PAPER, 68.97, 68.21),
    ("rat_lr", "cifar100", "linf"): (RAT_PAPER, 26.57, 26.18),
    ("rat_lr", "cifar100", "l2"): (RAT_PAPER, 38.31, 37.76),
    ("rat_lr", "svhn", "linf"): (RAT_PAPER, 53.32, 43.41),
    ("rat_lr", "svhn", "l2"): (RAT_PAPER, 66.47, 62.10),
    ("rat_wp", "cifar10", "linf"): (RAT_PAPER, 54.85, 53.98),
    ("rat_wp", "cifar10", "l2"): (RAT_PAPER, 70.77, 69.49),
    ("rat_wp", "cifar100", "linf"): (RAT_PAPER, 30.91, 30.42),
    ("rat_wp", "cifar100", "l2"): (RAT_PAPER, 45.23, 44.93),
    ("rat_wp", "svhn", "linf"): (RAT_PAPER, 57.91, 54.32),
    ("rat_wp", "svhn", "l2"): (RAT_PAPER, 71.66, 65.68),
    ("trades", "cifar10", "linf"): (MEAT_PAPER, 55.48, 53.19),
    ("trades", "cifar100", "linf"): (MEAT_PAPER, 30.43, 28.78),
    ("mart", "cifar10", "linf"): (PIAT_PAPER, 53.70, 48.63),
    ("mart", "cifar100", "linf"): (PIAT_PAPER, 30.10, 25.96),
    ("mart", "svhn", "linf"): (PIAT_PAPER, 57.70, 54.29),
    ("alp", "cifar10", "linf"): (PIAT_PAPER, 52.37, 48.62),
    ("alp", "cifar100", "linf"): (PIAT_PAPER, 28.12, 24.66),
    ("alp", "svhn", "linf"): (PIAT_PAPER, 59.13, 55.12),
    ("piat_nmse", "cifar10", "linf"): (PIAT_PAPER, 53.74, 52.81),
    ("piat_nmse", "cifar100", "linf"): (PIAT_PAPER, 31.45, 30.87),
    ("piat_nmse", "svhn", "linf"): (PIAT_PAPER, 61.21, 59.84),
    ("fat", "cifar10", "linf"): (MEAT_PAPER, 48.73, 46.58),
    ("meat_fat", "cifar10", "linf"): (MEAT_PAPER, 52.62, 50.99),
    ("gairat", "cifar10", "linf"): (MEAT_PAPER, 57.63, 54.50),
    ("gairat", "cifar100", "linf"): (MEAT_PAPER, 26.28, 25.63),
    ("mail", "cifar10", "linf"): (PIAT_PAPER, 51.15, 47.14),
    ("mail", "cifar100", "linf"): (PIAT_PAPER, 27.99, 24.69),
    ("mail", "svhn", "linf"): (PIAT_PAPER, 57.47, 54.60),
    ("piat_mail", "cifar10", "linf"): (PIAT_WIDE, 57.53, None),
    ("piat_mail", "cifar100", "linf"): (PIAT_WIDE, 33.65, None),
    ("consistency", "cifar10", "linf"): (MEAT_PAPER, 58.28, 54.13),
    ("consistency", "cifar100", "linf"): (MEAT_PAPER, 27.41, 27.27),
    ("idbh", "cifar10", "linf"): (MEAT_PAPER, 57.60, 56.98),
    ("idbh", "cifar100", "linf"): (MEAT_PAPER, 32.61, 31.19),
    ("meat_idbh", "cifar10", "linf"): (MEAT_PAPER, 61.08, 60.93),
    ("meat_idbh", "cifar100", "linf"): (MEAT_PAPER, 35.93, 35.13),
    ("meat", "cifar10", "linf"): (MEAT_PAPER, 60.08, 58.89),
    ("meat", "cifar100", "linf"): (MEAT_PAPER, 35.03, 33.11),
}

Published = tuple[str, dict[str, float]]
"""Source, and measure to accuracy in %."""
RST = {"rst": {"beta": 6.0}}
# The papers' columns natural, PGD-20 and AutoAttack, of the best checkpoint.
SELF_TRAINING: dict[str, tuple[Published, list[Any]]] = {
    "rst": (
        ("Yu et al., arXiv:2205.14826, WRN-28-10", {"clean best": 89.69, "pgd-20 best": 62.60, "aa best": 59.53}),
        [RST],
    ),
    "rst_rwp": (
        ("Yu et al., arXiv:2205.14826, WRN-28-10", {"clean best": 88.87, "pgd-20 best": 64.11, "aa best": 60.36}),
        [RST, {"rwp": {"gamma": 0.005, "c_min": 1.7, "k2": 10}}],
    ),
    "rst_amp": (
        ("Yan et al., AT-AMP, WRN-34-10", {"clean best": 86.34, "pgd-20 best": 61.86, "aa best": 59.63}),
        [RST, {"amp": {"delta": 0.1}}],
    ),
}


def self_training(*plugins: Any) -> dict[str, Any]:
    """RST: 200 epochs of 50,000 examples, half of each batch of 256 from 500,000 images with a teacher's labels."""
    options: dict[str, Any] = {"lr": 0.1, "decay": 5e-4, "loss": "kl", "start": "gaussian"}
    cosine = {"name": "cosine", "per": "epoch"}
    recipe = trades_lineage("cifar10", "linf", *plugins, epochs=200, schedule=cosine, **options)
    extra = {"name": "npz", "path": "cifar10_extra.npz", "share": "1/2"}
    recipe["data"] |= {"batch_size": 256, "extra": extra}
    recipe["model"]["name"] = "wrn_34_10" if {"amp": {"delta": 0.1}} in plugins else "wrn_28_10"
    recipe["optimizer"]["nesterov"] = True
    return recipe


# In the order of `make compare`, whose other rows are compared with the first.
DIGITS: dict[str, list[Any]] = {
    "at": [{"meat": {"start": 0.4}}],
    "piat_nmse": ["piat", {"nmse": {"mu": 4.0}}],
    "amp": [{"amp": {"delta": 0.3}}],
    "awp": [{"awp": {"gamma": 0.02}}],
    "rwp": [{"rwp": {"gamma": 0.02, "c_min": 1.0, "k2": 1}}, {"meat": {"start": 0.4}}],
    "rat_lr": [{"rat_lr": {"layers": [3, 4]}}],
    "rat_wp": [{"rat_wp": {"gamma": 0.02, "layers": [3, 4]}}],
    "trades": [{"trades": {"beta": 6.0}}],
    "mart": [{"mart": {"lam": 5.0}}],
    "trades_rwp": [
        {"trades": {"beta": 6.0}},
        {"rwp": {"gamma": 0.02, "c_min": 1.0, "k2": 1}},
        {"meat": {"start": 0.4}},
    ],
    "mail": [{"mail": {"start": 0.4}}],
    "piat_mail": ["piat", {"mail": {"start": 0.4}}],
    "randomized_at": ["randomized_at"],
    "rst": [{"rst": {"beta": 6.0}}],
    "rst_rwp": [{"rst": {"beta": 6.0}}, {"rwp": {"gamma": 0.02, "c_min": 2.0, "k2": 1}}],  # labelled losses count twice
    "rst_amp": [{"rst": {"beta": 6.0}}, {"amp": {"delta": 0.3}}],
    "alp": ["alp"],
    "drop_easy": [{"drop_easy": {"c_min": 1.0}}],  # RWP's
    "augment": [{"augment": {"pad": 1, "padding": "zeros", "flip": False}}],  # a mirrored digit is none
    "cutout": [{"cutout": {"size": 3}}],
    "mixup": ["mixup"],
    "label_smoothing": ["label_smoothing"],
    "cutmix": ["cutmix"],
    "consistency": ["consistency", {"augment": {"pad": 1, "padding": "zeros", "flip": False}}],
    "autoaugment": [{"autoaugment": {"cutout": 2}}],
    "idbh": [{"idbh": {"flip": False, "max_shift": 2}}],
    "meat_idbh": [{"idbh": {"flip": False, "max_shift": 2}}, {"meat": {"start": 0.4}}],
    "l1": ["l1"],
    "l2": [{"l2_groups": {"weight_decay": 5e-3}}],
    "clip_grad": [{"clip_grad": {"norm": 0.5}}],
    "fix_param": [{"freeze_layers": {"layers": [3, 4]}}],
    "meat_fat": [{"meat": {"start": 0.4}}],
    "gairat": [],
    "fgsm": [],
    "fast": [],
    "n_fgsm": [],
    "vit_at": [],
    "ard_prm": [],
    "trades_ard_prm": [{"trades": {"beta": 6.0}}],
    "piat_ard_prm": ["piat", {"nmse": {"mu": 4.0}}],
    "free_at": [],
    "grad_align": [{"grad_align": {"lam": 0.2}}],
    "cfa": [{"fawa": {"threshold": 0.2, "attack": "pgd"}}],  # the instructions of the public code
    "clean": [],
    "fix_lr": [{"rat_lr": {"layers": [3, 4]}}],
    "awp_layers": [{"rat_wp": {"gamma": 0.02, "layers": [3, 4]}}],
}
PGD = {"steps": 10, "step_size": "1/40"}
KL = {"pgd": {**PGD, "loss": "kl", "start": "gaussian"}}
ARD_PRM = {"ard_prm": {"warmup": 12, **PGD}}  # a quarter of the run, as in the paper
# Where it is not plain PGD.
ATTACKS: dict[str, Any] = {
    **dict.fromkeys(["trades", "trades_rwp", "randomized_at", "rst", "rst_rwp", "rst_amp"], KL),
    "mart": {"pgd": {**PGD, "start": "gaussian"}},
    "mail": {"pgd": {**PGD, "loss": "kl", "start": "gaussian"}},
    "piat_mail": {"pgd": {**PGD, "loss": "kl", "start": "gaussian"}},
    "fgsm": {"fgsm": {"start": "uniform"}},
    "meat_fat": {"fat": {**PGD, "rises": [0.42, 0.75]}},
    "gairat": {"gairat": {**PGD, "begin": 0.4}},
    "fast": "fast",
    "n_fgsm": "n_fgsm",
    **dict.fromkeys(["ard_prm", "piat_ard_prm"], ARD_PRM),
    "trades_ard_prm": {"ard_prm": {**ARD_PRM["ard_prm"], **KL["pgd"]}},
    "free_at": "free_at",
    "grad_align": "fgsm",
    "cfa": {"cfa": {"steps": 10, "step_size": "1/40"}},
    "clean": "clean",
}
# With patches of 2 pixels, or inputs not normalized, it was still at chance after 8 epochs of PGD.
VIT = {
    "name": "timm",
    "arch": "vit_tiny_patch16_224",
    "options": {"img_size": 8, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 4},
    "normalize": {"mean": [0.3], "std": [0.38]},
}
VITS = ("vit_at", "ard_prm", "trades_ard_prm", "piat_ard_prm")
SGD = {"name": "sgd", "lr": 0.3, "momentum": 0.9, "weight_decay": 2e-3}
ADAMW = {"name": "adamw", "lr": 3e-3, "weight_decay": 2e-3}
REPLAYS = {"free_at": 4}
CYCLIC = {"name": "cyclic", "peak": 0.5}  # Wong et al.'s code, and de Jorge et al.'s
# Where it is not two drops.
SCHEDULES = {"fast": CYCLIC, "n_fgsm": CYCLIC, "grad_align": CYCLIC}
# As many images without labels as with them, half of each batch.
EXTRA = {"unlabelled_per_class": 40, "extra": {"share": "1/2"}}
SWEEPS = {"fix_param": "freeze_layers", "fix_lr": "rat_lr", "awp_layers": "rat_wp"}


def digits(method: str) -> dict[str, Any]:
    """Label-noise digits, as in configs/demo.yaml; where batches are replayed, with as many steps in fewer epochs."""
    replays = REPLAYS.get(method, 1)
    return {
        "data": {
            "name": "digits",
            "train_per_class": 40,
            "validation": 397,
            "label_noise": 0.2,
            "batch_size": 80,
            **({"replays": replays} if replays > 1 else {}),
            **(EXTRA if method.startswith("rst") else {}),
        },
        "model": VIT if method in VITS else {"name": "preact_tiny", "memory_format": "channels_last"},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": [ATTACKS.get(method, {"pgd": PGD}), *DIGITS[method]],
        "optimizer": ADAMW if method in VITS else SGD,
        "schedule": SCHEDULES.get(method, {"name": "piecewise", "milestones": [0.4, 0.8], "factor": 0.1}),
        "epochs": 48 // replays,
        "evaluation": {"every": 4, "attack": {"pgd": {"steps": 20, "step_size": "1/80"}}, "best_by": "validation"},
        "checkpoint": {"every": 8, "keep": 2},
    }


class _Dumper(yaml.SafeDumper):
    """Sections in one line where they are short; 2.0e-3 for small numbers."""


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value) if "." in repr(value) else repr(value).replace("e", ".0e")  # 5.0e-06: a float to YAML 1.1 too
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _number)


def best_and_last(target: tuple[str, float, float | None] | None) -> Published | None:
    """Published numbers of PGD-20; the last one is None where only the best is published."""
    if target is None:
        return None
    source, best, last = target
    return source, {"pgd-20 best": best, **({} if last is None else {"pgd-20 last": last})}


def text(head: str, name: str, body: dict[str, Any], published: Published | None) -> str:
    full = {"name": name, **copy.deepcopy(body)}
    lines = [f"# {line}" for line in head.splitlines()]
    for key, value in full.items():
        if key == "plugins":
            lines.append("plugins:")
            lines += [f"  - {_inline(each)}" for each in value]
        else:
            lines.append(f"{key}: {_inline(value)}")
    if published:
        source, values = published
        lines += [
            "targets:  # published by the authors, not measured here",
            f"  source: {_inline(source)}",
            "  note: published, not measured here",
            f"  values: {{{', '.join(f'{measure}: {value}' for measure, value in values.items())}}}",
        ]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
        ((name, settings),) = value.items()
        return f"{name}: {_inline(settings)}"
    dumped = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10_000)
    return dumped.removesuffix("...\n").strip()


def all_recipes() -> dict[Path, str]:
    """Path below configs/ to text."""
    texts = {}
    for dataset in NORMALISATION:
        for norm in ("linf", "l2"):
            further = [method for method in PUBLISHED if (method, dataset, norm) in TARGETS]
            for method in (*METHODS, *further):
                target = TARGETS.get((method, dataset, norm))
                lineage = "RO" if method in RO_LINEAGE else "TRADES"
                head = f"{method} on {dataset}, {norm}: the setting of its paper ({lineage} lineage), not run here."
                if target is None:
                    head += "\nThe papers publish no number for it."
                body = recipe(method, dataset, norm)
                name = f"{dataset}-{norm}-{method}"
                texts[Path(dataset) / norm / f"{method}.yaml"] = text(head, name, body, best_and_last(target))
    for method, (published, plugins) in SELF_TRAINING.items():
        head = f"{method} on cifar10, linf: the setting of its paper (TRADES lineage), not run here.\n"
        head += "Half of each batch are images with a teacher's labels, from a file that lies beside the config."
        body = self_training(*plugins)
        texts[Path("cifar10") / "linf" / f"{method}.yaml"] = text(head, f"cifar10-linf-{method}", body, published)
    for method in DIGITS:
        head = f"{method} on label-noise digits: a fifth of the training labels wrong on purpose."
        if method.startswith("rst"):
            head += "\nBeside them come as many images without labels."
        if method in SWEEPS:
            sets = "[1],[2],[3],[4],[1,2],[1,3],[1,4],[2,3],[2,4],[3,4],[1,2,3],[1,2,4],[1,3,4],[2,3,4]"
            sets += ",[1,2,3,4]" if method != "fix_param" else ""
            head += (
                "\nThe sweep over sets of layer groups (Nguyen et al., TMLR 2024, section 3), with the standard run:"
            )
            head += f"\nbuttress compare configs/digits/at.yaml configs/digits/{method}.yaml \\"
            head += f"\n  '{SWEEPS[method]}.layers={sets}'"
        texts[Path("digits") / f"{method}.yaml"] = text(head, f"digits-{method}", digits(method), None)
    for method, plugin in SWEEPS.items():
        settings: dict[str, Any] = {"layers": [3, 4], **({"gamma": 0.01} if plugin == "rat_wp" else {})}
        body = ro("cifar10", "linf", {plugin: settings})
        head = "A diagnostic of Nguyen et al., TMLR 2024, section 3, over sets of layer groups, not run here:"
        head += f"\nbuttress compare configs/cifar10/linf/at.yaml configs/cifar10/linf/{method}.yaml \\"
        head += f"\n  '{plugin}.layers=[4],[3,4],...'"
        texts[Path("cifar10") / "linf" / f"{method}.yaml"] = text(head, f"cifar10-linf-{method}", body, None)
    return texts


def measured() -> list[Path]:
    """Paths below configs/ of the recipes that ``make compare`` trains: all on digits, the same training only once."""
    trained: list[dict[str, Any]] = []
    paths = []
    for method in DIGITS:
        if digits(method) not in trained:
            trained.append(digits(method))
            paths.append(Path("digits") / f"{method}.yaml")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the recipes under configs/.")
    parser.add_argument("--methods", action="store_true", help="list the recipes that `make compare` trains instead")
    if parser.parse_args().methods:
        sys.stdout.writelines(f"{CONFIGS.name}/{path.as_posix()}\n" for path in measured())
        return
    for path, content in all_recipes().items():
        (CONFIGS / path).parent.mkdir(parents=True, exist_ok=True)
        (CONFIGS / path).write_text(content, encoding="utf-8")
    sys.stdout.write(f"{len(all_recipes())} recipes in {CONFIGS.name}/\n")


if __name__ == "__main__":
    main()
