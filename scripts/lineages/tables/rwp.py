"""The tables of RWP (Yu et al.): AT, AWP and RWP on three data sets under two norms, and attacks on wide networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..meat import wide
from ..papers import SETTINGS
from ..recipe import Body, Recipe
from ..ro import C_MIN, as_printed, weights
from ..self_training import rst
from ..trades import KL, in_awp_code
from .row import ABOUT_RST, BEST, Paper, numbers, of_code

PAPER = Paper("rwp", "Yu et al., arXiv:2205.14826", ("Setting of RWP's paper.",))
SETS, ATTACKS = "data sets and norms", "attacks on wide networks"
# PGD-20 accuracy of AT, AWP and RWP, best/last.
ON_SETS = {
    ("svhn", "linf"): "53.36/44.49 59.12/55.87 61.15/57.45",
    ("cifar10", "linf"): "52.79/44.44 55.39/54.73 58.55/58.01",
    ("cifar100", "linf"): "27.22/20.82 30.71/30.28 31.17/30.64",
    ("svhn", "l2"): "66.87/65.03 72.57/67.73 73.35/69.48",
    ("cifar10", "l2"): "69.15/65.93 72.69/72.08 74.47/73.84",
    ("cifar100", "l2"): "41.33/35.27 45.60/44.66 45.71/45.05",
}
MEASURES = "clean fgsm pgd-20 pgd-100 cw aa"
UNDER_ATTACKS = {
    "at": ("AT", "86.07 61.76 56.10 55.79 54.19 52.60"),
    "awp": ("AT-AWP", "85.57 62.90 58.14 57.94 55.96 54.04"),
    "rwp": ("AT-RWP", "86.86 66.22 62.87 62.87 56.62 54.61"),
    "trades": ("TRADES", "84.65 61.32 56.33 56.07 54.20 53.08"),
    "trades_awp": ("TRADES-AWP", "85.36 63.49 59.27 59.12 57.07 56.17"),
    "trades_rwp": ("TRADES-RWP", "86.14 64.70 60.45 60.30 58.07 57.20"),
    "rst": ("RST", "89.69 69.60 62.60 62.22 60.47 59.53"),
    "rst_awp": ("RST-AWP", "88.25 67.94 63.73 63.58 61.62 60.05"),
    "rst_rwp": ("RST-RWP", "88.87 69.71 64.11 63.92 62.03 60.36"),
}
NOTES = {
    "rwp": ["Oddity: CW and AutoAttack find 6 and 8 points more than PGD-20; see all of them."],
}
FROM_EPOCH_10 = "Weights are perturbed from epoch 9 on, as in the public codes (epoch 10, counted from 1)."
CANNOT_RUN = [
    "c_min is that of the public code. It cannot run as it is, adding a cross-entropy of each example to a divergence",
    "of each class: here the condition is on the loss of the example.",
]
# With TRADES and RST, whose codes begin at epoch 10, counted from 1.
_AWP: dict[str, Any] = {"awp": {"gamma": 0.005, "start": 9}}
_RWP: dict[str, Any] = {"rwp": {"gamma": 0.005, "c_min": 1.7, "k2": 10, "start": 9}}
TRADES = {"trades": {"beta": 6.0}}


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        for (stack, body), printed in zip(on_sets(dataset, norm).items(), ON_SETS[dataset, norm].split(), strict=True):
            yield PAPER.row(SETS, stack.upper(), stack, body, numbers("pgd-20", printed), *of_code(body))
    for stack, body in under_attacks().items():
        name, printed = UNDER_ATTACKS[stack]
        yield PAPER.row(ATTACKS, name, stack, body, numbers(MEASURES, printed), *notes(stack), BEST)


def on_sets(dataset: str, norm: str) -> dict[str, Body]:
    return {
        "at": as_printed(dataset, norm),
        "awp": as_printed(dataset, norm, weights("awp", dataset, norm)),
        "rwp": as_printed(dataset, norm, weights("rwp", dataset, norm, c_min=C_MIN[dataset], k2=10)),
    }


def under_attacks() -> dict[str, Body]:
    def trades(*plugins: Any) -> Body:
        return in_awp_code("cifar10", "linf", TRADES, *plugins, model="wrn_34_10", **KL)

    return {
        **{stack: wide(body) for stack, body in on_sets("cifar10", "linf").items()},
        "trades": trades(),
        "trades_awp": trades(_AWP),
        "trades_rwp": trades(_RWP),
        "rst": rst("wrn_28_10"),
        "rst_awp": rst("wrn_28_10", _AWP),
        "rst_rwp": rst("wrn_28_10", _RWP),
    }


def notes(stack: str) -> list[str]:
    of_method = ABOUT_RST if stack.startswith("rst") else NOTES.get(stack, [])
    trades = ["TRADES as in the code of AWP."] if stack.startswith("trades") else []
    start = [FROM_EPOCH_10] if stack.endswith(("_awp", "_rwp")) else []
    return [*trades, *of_method, *start, *(CANNOT_RUN if stack.endswith("_rwp") else [])]
