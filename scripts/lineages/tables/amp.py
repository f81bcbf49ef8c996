"""The tables of AT-AMP (Yan et al.): data sets and norms, attacks on WRN-34-10, and regularisers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import pretraining
from ..meat import wide
from ..recipe import Body, Recipe
from ..ro import as_printed, stacks
from ..self_training import rst
from ..trades import KL, in_awp_code
from .row import ABOUT_RST, BEST, Paper, numbers, of_code

PAPER = Paper(
    "amp",
    "Yan et al., AT-AMP",
    (
        "Setting of AT-AMP's paper. It does not give weight decay (here 5e-4), batch size (here 128), the number of",
        "inner steps (here 1) and their size (here 1).",
    ),
)
SETS, ATTACKS, REGULARISERS = "data sets and norms", "attacks on WRN-34-10", "regularisers"
NARROW, WIDE = "preact_resnet18", "wrn_34_10"
# PGD-20 and natural accuracy of PGD-AT and of AT-AMP, best/last; of 5 runs.
ROWS = {
    ("svhn", "linf", NARROW): "53.34/44.46 92.14/89.56 | 58.47/57.38 93.25/92.19",
    ("svhn", "l2", NARROW): "66.63/65.05 93.34/93.12 | 72.36/67.86 95.25/94.76",
    ("cifar10", "linf", NARROW): "51.77/44.36 81.68/81.57 | 53.85/53.26 80.36/80.44",
    ("cifar10", "l2", NARROW): "68.13/65.90 89.54/88.93 | 71.25/71.13 90.03/89.13",
    ("cifar100", "linf", NARROW): "27.26/20.34 56.36/54.85 | 30.52/29.69 53.69/53.36",
    ("cifar100", "l2", NARROW): "41.39/35.54 62.83/60.34 | 44.93/44.63 63.85/62.51",
    ("cifar10", "linf", WIDE): "54.16/43.52 84.16/84.57 | 55.54/53.89 83.89/83.59",
    ("cifar100", "linf", WIDE): "29.95/24.02 56.69/56.23 | 31.93/31.54 55.88/55.25",
}
MEASURES = "clean fgsm pgd-20 pgd-100 cw spsa aa"
UNDER_ATTACKS = {
    "at_attacks": ("AT", "84.45 61.55 54.18 53.43 52.32 61.13 51.30"),
    "amp_attacks": ("AT-AMP", "83.74 62.83 56.26 55.83 53.46 62.53 53.16"),
    "trades": ("TRADES", "82.27 61.26 54.56 54.03 52.36 61.25 52.22"),
    "trades_amp": ("TRADES-AMP", "83.65 63.52 57.37 57.21 55.11 63.56 55.86"),
    "mart": ("MART", "82.19 61.65 56.39 55.86 52.69 59.02 50.23"),
    "mart_amp": ("MART-AMP", "83.24 63.83 58.69 57.43 54.42 61.96 53.49"),
    "pretraining": ("Pre-training", "85.56 63.15 55.43 54.32 53.67 62.19 53.85"),
    "pretraining_amp": ("Pre-training-AMP", "86.36 65.63 59.56 58.61 57.35 64.43 56.45"),
    "rst": ("RST", "87.53 69.31 60.19 60.03 58.63 67.15 58.32"),
    "rst_amp": ("RST-AMP", "86.34 67.45 61.86 61.53 59.35 68.85 59.63"),
}
# PGD-20 accuracy on CIFAR-10, best/last. AT and AMP are rows of the first table too, where AT has other numbers in L2.
AGAINST_REGULARISERS = {
    "linf": {"l1": "51.92/48.74", "l2": "51.71/47.38", "mixup": "52.83/49.76", "cutout": "52.79/50.35"},
    "l2": {"l1": "67.96/63.73", "l2": "67.87/63.69", "mixup": "70.19/68.27", "cutout": "69.56/67.59"},
}
AT_IN_L2 = "69.15/65.93"
OTHER_NUMBERS = "Oddity: another table has other numbers for the same training: {}."
RICE = "The regulariser's settings are those that the paper takes from Rice et al., arXiv:2002.11569."
NOTES = {
    "trades": ["TRADES as in the code of AWP, beta 6."],
    "mart": ["MART's loss with the weight 6 of its code for wide networks; all other settings as for TRADES."],
    "pretraining": [
        "50 epochs at a learning rate of 0.001 are the paper's; all else is as in the code of pre-training.",
        "It starts from a WRN-34-10 that was trained on ImageNet at 32x32 by PGD-10 at 8/255, in the file",
        "imagenet32_wrn_34_10.pt beside the config. A run on such images (data.name=npz) makes it:",
        "model.weights.file=RUN/weights/last-live.safetensors",
        "Hendrycks et al., arXiv:1901.09960, publish one of a WRN-28-10: model.name=wrn_28_10 model.weights.file=FILE",
    ],
    "rst": ABOUT_RST,
}
AMP = {"amp": {"delta": 0.1}}


def recipes() -> Iterator[Recipe]:
    for dataset, norm, model in ROWS:
        yield from of_setting(dataset, norm, model)
    for stack, body in under_attacks().items():
        name, printed = UNDER_ATTACKS[stack]
        yield PAPER.row(ATTACKS, name, stack, body, numbers(MEASURES, printed), *notes(stack), BEST)
    for norm in AGAINST_REGULARISERS:
        yield from regularisers(norm)


def of_setting(dataset: str, norm: str, model: str) -> Iterator[Recipe]:
    """PGD-AT and AT-AMP on one data set under one norm."""
    for (stack, name), printed in zip(
        {"at": "PGD-AT", "amp": "AT-AMP"}.items(), ROWS[dataset, norm, model].split("|"), strict=True
    ):
        body = as_printed(dataset, norm, *([AMP] if stack == "amp" else []))
        notes, tables = of_code(body), [SETS]
        if (dataset, model) == ("cifar10", WIDE):
            notes.append(OTHER_NUMBERS.format(f"{stack}_attacks"))
        elif (dataset, norm, stack) == ("cifar10", "l2", "at"):
            notes.append(OTHER_NUMBERS.format("at_regularisers"))
        elif dataset == "cifar10":
            tables.append(REGULARISERS)
        values = numbers("pgd-20 clean", printed)
        yield PAPER.row(tuple(tables), name, stack, wide(body) if model == WIDE else body, values, *notes)


def under_attacks() -> dict[str, Body]:
    def trades(*plugins: Any) -> Body:
        return in_awp_code("cifar10", "linf", {"trades": {"beta": 6.0}}, *plugins, model=WIDE, **KL)

    def mart(*plugins: Any) -> Body:
        return in_awp_code("cifar10", "linf", {"mart": {"lam": 6.0}}, *plugins, model=WIDE, start="gaussian")

    return {
        "at_attacks": wide(as_printed("cifar10", "linf")),
        "amp_attacks": wide(as_printed("cifar10", "linf", AMP)),
        "trades": trades(),
        "trades_amp": trades(AMP),
        "mart": mart(),
        "mart_amp": mart(AMP),
        "pretraining": pretraining.cifar("cifar10"),
        "pretraining_amp": pretraining.cifar("cifar10", AMP),
        "rst": rst(WIDE),
        "rst_amp": rst(WIDE, AMP),
    }


def notes(stack: str) -> list[str]:
    method, _, _ = stack.partition("_")
    if method in ("at", "amp"):
        return [OTHER_NUMBERS.format(method)]
    return NOTES[method]


def regularisers(norm: str) -> Iterator[Recipe]:
    for stack, printed in AGAINST_REGULARISERS[norm].items():
        body = as_printed("cifar10", norm, *stacks("cifar10", norm)[stack])
        name = stack.upper() if stack in ("l1", "l2") else stack.title()
        yield PAPER.row(REGULARISERS, name, stack, body, numbers("pgd-20", printed), RICE)
    if norm == "l2":
        body, note = as_printed("cifar10", norm), OTHER_NUMBERS.format("at")
        yield PAPER.row(REGULARISERS, "AT", "at_regularisers", body, numbers("pgd-20", AT_IN_L2), note)
