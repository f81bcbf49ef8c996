"""The tables of MEAT (Hu et al.): 12 methods on WRN-34-10, CIFAR-10 and CIFAR-100, and the ablation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..meat import MEAT, in_two_views, setting, with_idbh
from ..recipe import Body, Recipe
from ..trades import KL, attacked_by
from .row import Paper, numbers, of_code

PAPER = Paper(
    "meat",
    "Hu et al., arXiv:2406.14259",
    (
        "Setting of MEAT's paper, for all of its rows. The paper does not give the batch size (here 128), the mode of",
        "the model during the attack (here eval) and the settings of the other methods (here those of their papers).",
        "It also speaks of a drop of the learning rate at epoch 60 (PreActResNet-18), where this one falls in lines.",
    ),
)
COMPARISON, ABLATION = "comparison", "ablation"
# Name in the paper, and clean, PGD-20 and AutoAttack accuracy on CIFAR-10 and on CIFAR-100, each best/last.
ROWS = {
    "at": ("AT", "85.23/80.50 48.93/44.42 45.62/41.99", "60.29/53.59 26.84/20.25 22.48/16.98"),
    "trades": ("TRADES", "83.94/82.08 55.48/53.19 51.28/49.12", "59.52/56.05 30.43/28.78 24.56/23.24"),
    "mart": ("MART", "83.06/84.66 56.24/51.78 53.02/45.74", "61.72/56.70 29.94/28.13 25.60/24.94"),
    "awp": ("AWP", "86.37/85.90 58.18/56.55 53.51/52.21", "63.59/62.50 34.47/34.27 29.38/29.07"),
    "consistency": ("CCG", "86.56/84.85 58.28/54.13 52.16/49.51", "60.74/58.19 27.41/27.27 23.22/22.75"),
    "idbh": ("IDBH", "87.04/86.20 57.60/56.98 53.04/52.44", "60.66/61.54 32.61/31.19 27.39/26.42"),
    "gairat": ("GAIRAT", "85.84/85.50 57.63/54.50 43.49/43.18", "53.61/60.01 26.28/25.63 22.37/21.62"),
    "seat": ("SEAT", "86.02/87.55 59.25/51.95 54.82/47.95", "62.25/62.35 34.17/26.62 29.70/22.08"),
    "wa": ("AT+WA", "86.57/84.21 57.78/54.93 52.79/49.88", "63.84/57.78 32.41/29.84 28.83/25.19"),
    "idbh_wa": ("IDBH+WA", "88.23/88.23 60.92/60.88 55.72/55.70", "64.39/65.66 35.70/35.28 30.89/31.01"),
    "meat": ("MEAT", "87.38/88.50 60.08/58.89 55.20/54.26", "64.21/63.87 35.03/33.11 30.64/27.42"),
    "meat_idbh": ("MEAT+IDBH", "89.06/88.57 61.08/60.93 56.13/55.89", "64.93/66.07 35.93/35.13 31.12/31.23"),
}
# Rows that the ablation adds on CIFAR-10, with clean and PGD-20 accuracy.
ADDED = {
    "meat_trades": ("TRADES+MEAT", {"pgd-20 best": 59.24, "pgd-20 last": 59.11}),
    "meat_mart": ("MART+MEAT", numbers("clean pgd-20", "79.54/85.12 58.75/55.78")),
    "fat": ("FAT", numbers("clean pgd-20", "89.78/88.96 48.73/46.58")),
    "meat_fat": ("FAT+MEAT", numbers("clean pgd-20", "90.34/89.48 52.62/50.99")),
}
IDBH = "The variant of IDBH is the weak one; the paper does not say which."
DECAY = "The paper does not give the decay of the average (here 0.999)."
NOTES = {
    "at": ["Oddity: the best PGD-20 accuracy on CIFAR-10 lies several points below that of other papers (about 55)."],
    "awp": ["gamma 0.01 is that of AWP's code for AT."],
    "idbh": [IDBH],
    "gairat": ["The weights begin at epoch 60 of 120, as in GAIRAT's code, which counts from 1."],
    "seat": ["The average is that of SEAT's code: from the first step on, buffers included."],
    "wa": [
        "The average of each step begins at epoch 60.",
        DECAY,
        "Oddity: it is said to be exponential, and elsewhere to weigh all models alike.",
    ],
    "idbh_wa": [
        IDBH,
        "The average of each step begins at epoch 60, as the paper's WA; IDBH's code begins it at the start.",
        DECAY,
    ],
    "meat_idbh": [IDBH],
    "meat_trades": [
        "The clean accuracy is not legible: 86.53 (86.82) or 80.55 (80.82).",
        "Oddity: the printed gap is 0.15, and these numbers differ by 0.13.",
    ],
}
IN_BOTH = {"trades", "mart"}
"""Rows of the comparison on CIFAR-10 that stand in the ablation too."""
WA = {"ema": {"start": 60, "warmup": False}}
FAT = {"rises": [50, 90]}


def recipes() -> Iterator[Recipe]:
    for dataset in ("cifar10", "cifar100"):
        for stack, body in comparison(dataset).items():
            name, *printed = ROWS[stack]
            tables = (COMPARISON, ABLATION) if dataset == "cifar10" and stack in IN_BOTH else (COMPARISON,)
            values = numbers("clean pgd-20 aa", printed[dataset == "cifar100"])
            yield PAPER.row(tables, name, stack, body, values, *of_code(body), *_notes(stack, dataset))
    for stack, body in ablation().items():
        name, values = ADDED[stack]
        yield PAPER.row(ABLATION, name, stack, body, values, *NOTES.get(stack, []))


def comparison(dataset: str) -> dict[str, Body]:
    base = partial(setting, dataset, "linf")
    return {
        "at": base(),
        "trades": base({"trades": {"beta": 6.0}}, **KL),
        "mart": base({"mart": {"lam": 6.0}}, start="gaussian"),
        "awp": base({"awp": {"gamma": 0.01}}),
        "consistency": in_two_views(base()),
        "idbh": with_idbh(dataset, base()),
        "gairat": attacked_by("gairat", base(), begin=59),
        "seat": base({"ema": {"buffers": "ema", "track": "seat"}}),
        "wa": base(WA),
        "idbh_wa": with_idbh(dataset, base(WA)),
        "meat": base(MEAT),
        "meat_idbh": with_idbh(dataset, base(MEAT)),
    }


def ablation() -> dict[str, Body]:
    base = partial(setting, "cifar10", "linf")
    return {
        "meat_trades": base({"trades": {"beta": 6.0}}, MEAT, **KL),
        "meat_mart": base({"mart": {"lam": 6.0}}, MEAT, start="gaussian"),
        "fat": attacked_by("fat", base(), **FAT),
        "meat_fat": attacked_by("fat", base(MEAT), **FAT),
    }


def _notes(stack: str, dataset: str) -> list[str]:
    """Lines of the comment of a row: the oddity of AT's numbers is one of CIFAR-10."""
    return [] if stack == "at" and dataset != "cifar10" else NOTES.get(stack, [])
