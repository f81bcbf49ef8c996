"""The tables of PIAT (Liu et al.): ResNet-18, WRN-32-10, regularisers alone, and vision transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import vit
from ..piat import MAIL, piat, wide
from ..recipe import Body, Recipe
from ..ro import CFA_CODE, FAWA_CODE
from ..trades import KL, RANDOMIZED_AT, attacked_by
from .row import Paper, numbers

PAPER = Paper(
    "piat",
    "Liu et al., arXiv:2511.00836",
    (
        "Setting of PIAT's paper, for all of its rows. eps and step are not legible in it (here 8/255 and 2/255), nor",
        "are batch size (here 128), weight decay and the mode of the attack (here those of the code of SEAT).",
        "Settings of the other methods are those of their codes.",
    ),
)
TRANSFORMERS = Paper(
    PAPER.key,
    PAPER.source,
    (
        "Setting of PIAT's paper: the learning rate drops at 36 and 38 (in the code of ARD and PRM after 35 and 38),",
        "crops and flips alone. Weight decay, batch size and clipping are those of the code of ARD and PRM.",
    ),
)
NARROW, WIDE, ALONE, VIT = "ResNet-18", "WRN-32-10", "regularisers alone", "vision transformers"
MEASURES = "clean pgd-20 cw aa"
NAMES = {
    "at": "PGD-AT",
    "alp": "ALP",
    "trades": "TRADES",
    "mart": "MART",
    "mail": "MAIL",
    "cfa": "CFA",
    "randomized_at": "RAT",
    "piat": "PIAT",
    "piat_alp": "PIAT+ALP",
    "piat_trades": "PIAT+TRADES",
    "piat_mart": "PIAT+MART",
    "piat_mail": "PIAT+MAIL",
    "piat_nmse": "PIAT+NMSE",
}
# Clean, PGD-20, CW and AutoAttack accuracy, best/final.
ON_RESNET = {
    "cifar10": {
        "at": "84.28/85.62 50.29/45.86 49.31/43.25 46.33/41.36",
        "alp": "79.74/81.45 52.37/48.62 49.60/43.87 46.13/41.88",
        "trades": "82.39/83.04 53.60/50.74 50.90/49.04 48.04/46.80",
        "mart": "81.91/83.99 53.70/48.63 49.35/44.92 47.45/43.65",
        "mail": "82.65/85.17 51.15/47.14 48.88/44.38 45.16/43.02",
        "cfa": "82.80/83.88 53.24/51.69 51.45/49.97 48.40/47.74",
        "randomized_at": "81.63/82.61 52.25/50.09 49.47/47.93 45.20/44.30",
        "piat_nmse": "80.96/82.84 53.74/52.81 51.72/50.49 48.80/47.97",
    },
    "cifar100": {
        "at": "58.48/58.53 28.36/21.72 27.06/21.12 23.85/19.55",
        "alp": "57.29/58.65 28.12/24.66 26.84/22.17 23.57/20.49",
        "trades": "56.71/56.32 29.19/27.70 26.05/24.53 23.91/22.70",
        "mart": "55.26/57.77 30.10/25.96 26.30/23.79 24.13/22.35",
        "mail": "58.73/59.00 27.99/24.69 26.28/23.37 22.50/20.86",
        "cfa": "56.28/61.62 30.64/29.74 27.74/25.95 24.26/21.58",
        "randomized_at": "53.35/56.35 28.69/27.67 25.52/23.69 23.10/22.40",
        "piat_nmse": "56.04/57.16 31.45/30.87 28.74/27.76 26.09/25.13",
    },
    "svhn": {
        "at": "93.85/94.33 59.01/52.35 48.66/44.13 43.02/38.66",
        "alp": "92.54/93.67 59.13/55.12 52.22/48.53 45.67/42.41",
        "trades": "90.88/91.34 59.50/57.04 52.76/50.42 46.59/44.87",
        "mart": "90.84/92.95 57.70/54.29 52.95/50.09 46.98/43.75",
        "mail": "90.15/93.69 57.47/54.60 52.78/49.73 46.26/41.24",
        "cfa": "92.23/93.68 60.77/58.85 55.17/52.71 49.64/46.53",
        "randomized_at": "89.23/90.97 45.83/38.25 44.15/32.71 46.10/22.40",
        "piat_nmse": "91.70/93.07 61.21/59.84 55.88/54.45 51.29/49.82",
    },
}
# Clean, PGD-20 and AutoAttack accuracy of the best checkpoint, on CIFAR-10 and CIFAR-100.
ON_WIDE = {
    "at": ("86.87 48.77 47.78", "59.30 28.13 23.99"),
    "piat": ("85.56 52.80 48.35", "60.09 34.46 29.47"),
    "alp": ("84.18 53.55 49.68", "58.11 28.59 24.45"),
    "piat_alp": ("83.35 57.71 52.35", "59.25 34.04 28.94"),
    "trades": ("82.13 55.14 50.38", "57.99 31.97 26.76"),
    "piat_trades": ("82.08 58.93 53.73", "59.78 34.52 29.25"),
    "mart": ("81.57 56.44 49.58", "55.19 31.16 26.46"),
    "piat_mart": ("79.88 59.51 52.84", "54.32 34.87 28.79"),
    "mail": ("84.96 52.58 47.26", "58.04 29.50 23.97"),
    "piat_mail": ("84.24 57.53 52.22", "58.52 33.65 28.00"),
    "cfa": ("86.44 57.84 52.96", "63.37 33.89 28.98"),
    "randomized_at": ("83.46 57.07 51.56", "60.89 33.39 27.95"),
    "piat_nmse": ("85.04 58.04 53.83", "61.04 35.15 30.07"),
}
# NMSE without PIAT, as ON_WIDE; the other row of that table is ALP's on ResNet-18.
NMSE_ALONE = {"cifar10": "84.77 51.56 46.60", "cifar100": "58.88 29.55 24.82"}
IS_PREACT = "The paper's ResNet-18 is a PreActResNet-18 here."
NOTES = {
    "alp": ["The weight of ALP is not legible in the paper (here 0.5)."],
    "trades": ["The weight of TRADES is not legible in the paper (here 6)."],
    "mail": ["The form of MAIL is that of its code, TRADES; its weights begin at the share 75/120 of the epochs."],
    "cfa": ["CFA is that of its code, in the form for TRADES, with the average of weights."],
    "randomized_at": ["This is randomized adversarial training, in the form of its code for TRADES."],
    "nmse": ["The weight of NMSE is not legible in the paper (here 4)."],
    "piat": ["The coefficients of eq. 10 are not legible in the paper (here those of docs/methods/piat.md)."],
}
ON_TOP = "The table has columns for ARD&PRM and for PIAT; the latter is taken for PIAT on top of ARD and PRM."
UNFAIR = [
    "The code knows CIFAR-10 alone: with 100 classes every epoch is averaged, as the worst class never reaches 0.2.",
]


def recipes() -> Iterator[Recipe]:
    for dataset, rows in ON_RESNET.items():
        for stack, printed in rows.items():
            tables = (NARROW, ALONE) if stack == "alp" and dataset != "svhn" else NARROW
            values, notes = numbers(MEASURES, printed), [IS_PREACT, *of_stack(stack, dataset)]
            yield PAPER.row(tables, NAMES[stack], stack, body(dataset, stack), values, *notes)
    for dataset, printed in NMSE_ALONE.items():
        values, notes = numbers("clean pgd-20 aa", printed), [IS_PREACT, *of_stack("nmse", dataset)]
        yield PAPER.row(ALONE, "NMSE", "nmse", body(dataset, "nmse"), values, *notes)
    for stack, of_sets in ON_WIDE.items():
        for dataset, printed in zip(("cifar10", "cifar100"), of_sets, strict=True):
            values = numbers("clean pgd-20 aa", printed)
            network = wide(body(dataset, stack, lam=6.0))
            yield PAPER.row(WIDE, NAMES[stack], stack, network, values, *of_stack(stack, dataset))
    yield from transformers()


def body(dataset: str, stack: str, lam: float = 5.0) -> Body:
    """The body of a stack on ResNet-18; ``lam`` is the weight of MART."""
    method = stack.removeprefix("piat_")
    plugins, attack = methods(dataset, lam)[method]
    interpolation = ["piat"] if stack.startswith("piat_") else []
    made = piat(dataset, "linf", *interpolation, *plugins, **attack)
    if method != "cfa":
        return made
    return {**attacked_by("cfa", made, **CFA_CODE), "data": {**made["data"], "validation": 1000}}


def methods(dataset: str, lam: float) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Plugins of each method, and settings of its attack."""
    threshold = {"threshold": 0.0} if dataset == "cifar100" else {}
    return {
        "at": ([], {}),
        "piat": (["piat"], {}),
        "nmse": ([{"nmse": {"mu": 4.0}}], {}),
        "alp": ([{"alp": {"weight": 0.5}}], {}),
        "trades": ([{"trades": {"beta": 6.0}}], KL),
        "mart": ([{"mart": {"lam": lam}}], {"start": "gaussian"}),
        "mail": ([MAIL], KL),
        "cfa": ([{"fawa": {**FAWA_CODE, **threshold}}], {}),
        "randomized_at": ([RANDOMIZED_AT], KL),
    }


def of_stack(stack: str, dataset: str) -> list[str]:
    """Lines of a comment: what is not known of the stack's settings."""
    parts = [part for part in NOTES if stack == part or part in stack.split("_")]
    return [line for part in parts for line in NOTES[part]] + (
        UNFAIR if (stack, dataset) == ("cfa", "cifar100") else []
    )


def transformers() -> Iterator[Recipe]:
    for (model, loss), rows in vit.TARGETS.items():
        for stack, printed in zip(vit.stacks(loss), rows, strict=True):
            made = vit.setting(model, loss, stack)
            made["schedule"] = {"name": "piecewise", "milestones": [36, 38], "factor": 0.1}
            name = loss.upper() + ("+ARD&PRM" if "ard_prm" in stack else "") + ("+PIAT" if "piat" in stack else "")
            values = dict(zip(vit.MEASURES, printed, strict=True))
            notes = [ON_TOP, *NOTES["piat"]] if "piat" in stack else []
            yield TRANSFORMERS.row(VIT, name, stack, made, values, *notes, vit.from_imagenet(model))
