"""The tables of layer-wise RAT (Nguyen et al.): AT, RAT_LR and RAT_WP, TRADES by layer groups, and the sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..digits import layer_sets
from ..meat import wide
from ..papers import SETTINGS
from ..recipe import Body, Recipe
from ..ro import SWEEPS, as_printed, weights
from ..trades import KL, in_awp_code
from .row import Paper, numbers, of_code

PAPER = Paper(
    "rat", "Nguyen et al., TMLR 2024", ("Setting of RAT's paper; where it says nothing, that of the code of AWP.",)
)
MAIN, NATURAL, GROUPS, SWEEP = "data sets and networks", "natural accuracy", "TRADES by layer groups", "sweep"
NARROW, WIDE = "preact_resnet18", "wrn_34_10"
METHODS = {"at": "AT", "rat_lr": "RAT_LR", "rat_wp": "RAT_WP"}
# AT, RAT_LR and RAT_WP, each with PGD-20 and AutoAttack accuracy, best/last.
ROWS = {
    ("cifar10", "linf", NARROW): "52.31/44.45 47.95/42.05 | 51.57/49.07 46.89/45.35 | 54.85/53.98 49.19/48.24",
    ("cifar10", "l2", NARROW): "69.27/65.86 67.65/64.64 | 68.97/68.21 64.26/63.44 | 70.77/69.49 68.29/67.11",
    ("cifar10", "linf", WIDE): "55.57/47.37 52.13/46.09 | 55.50/47.32 52.05/45.89 | 58.92/58.23 54.46/53.98",
    ("cifar10", "l2", WIDE): "70.57/68.99 69.44/66.92 | 71.91/68.94 70.53/67.90 | 71.31/69.19 70.12/67.35",
    ("cifar100", "linf", NARROW): "28.07/21.24 23.61/18.41 | 26.57/26.18 21.77/21.22 | 30.91/30.42 25.52/24.57",
    ("cifar100", "l2", NARROW): "41.38/35.34 37.94/33.58 | 38.31/37.76 35.16/34.49 | 45.23/44.93 41.32/39.47",
    ("cifar100", "linf", WIDE): "30.74/24.89 26.98/23.07 | 30.57/23.53 26.72/22.53 | 30.81/25.46 27.11/23.56",
    ("cifar100", "l2", WIDE): "44.05/41.22 41.39/39.34 | 44.43/40.42 41.47/39.42 | 46.12/44.64 41.94/40.38",
    ("svhn", "linf", NARROW): "53.10/44.12 45.09/40.36 | 53.32/43.41 45.98/39.61 | 57.91/54.32 50.32/44.82",
    ("svhn", "l2", NARROW): "66.29/64.73 63.55/60.14 | 66.47/62.10 62.44/58.72 | 71.66/65.68 65.17/59.64",
    ("svhn", "linf", WIDE): "55.57/47.11 48.05/42.46 | 55.34/46.81 47.94/42.12 | 58.48/54.92 54.65/50.46",
    ("svhn", "l2", WIDE): "67.19/65.08 62.58/60.86 | 67.50/64.24 62.79/59.94 | 69.07/64.76 63.12/59.57",
}
# Natural accuracy on CIFAR-10, linf, of rows above; AWP has a row there alone, with PGD-20 and AutoAttack.
CLEAN = {
    (NARROW, "at"): "81.16/84.44",
    (NARROW, "rat_wp"): "82.24/83.36",
    (WIDE, "at"): "85.49/86.50",
    (WIDE, "rat_wp"): "86.08/86.23",
}
AWP = {NARROW: "81.11/82.00 55.39/54.73 50.12/49.85", WIDE: "85.30/85.39 58.35/57.16 54.07/53.49"}
# Layer groups with RAT_WP under TRADES (none: TRADES alone): natural, PGD-20 and AutoAttack accuracy, best/last.
BY_GROUPS: dict[tuple[int, ...], str] = {
    (): "82.77/82.94 52.67/49.65 49.28/46.80",
    (4,): "82.98/83.11 52.35/49.76 48.48/46.66",
    (3, 4): "82.61/83.08 55.33/54.85 51.34/51.04",
    (2, 3, 4): "81.89/82.37 55.44/54.91 51.24/51.20",
    (1, 2, 3, 4): "82.05/82.57 55.44/54.81 51.42/50.73",
}
# Name of each sweep in the paper, and what it found.
FINDINGS = {
    "fix_param": ("AT-fix-param", "robust overfitting is mitigated if and only if group 4 is in the set."),
    "fix_lr": ("AT-fix-lr", "less overfitting if and only if group 4 is in the set, none with groups 3 and 4."),
    "awp_layers": ("AT-awp", "robust overfitting is overcome only by [3,4], [1,3,4], [2,3,4], and all."),
}
WIDE_GROUPS = "A wide ResNet has three stages: its fourth group is the head, which the paper does not say."
NO_GAIN = "The paper reports that RAT_LR does not help on SVHN."
STARTS_LATER = "Weights are perturbed from epoch 9 on, as in the code of AWP for TRADES (epoch 10, counted from 1)."


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        for model in (NARROW, WIDE):
            yield from of_setting(dataset, norm, model)
    for model, printed in AWP.items():
        body = of_network(model, as_printed("cifar10", "linf", weights("awp", "cifar10", "linf")))
        yield PAPER.row(NATURAL, "AWP", "awp", body, numbers("clean pgd-20 aa", printed))
    yield from trades_by_groups()
    yield from sweeps()


def of_setting(dataset: str, norm: str, model: str) -> Iterator[Recipe]:
    """AT, RAT_LR and RAT_WP on one data set under one norm."""
    plugins: dict[str, list[Any]] = {
        "at": [],
        "rat_lr": [{"rat_lr": {"layers": [3, 4]}}],
        "rat_wp": [weights("rat_wp", dataset, norm, layers=[3, 4])],
    }
    for (stack, name), printed in zip(METHODS.items(), ROWS[dataset, norm, model].split("|"), strict=True):
        body = of_network(model, as_printed(dataset, norm, *plugins[stack]))
        values, tables = numbers("pgd-20 aa", printed), [MAIN]
        if (dataset, norm) == ("cifar10", "linf") and (model, stack) in CLEAN:
            values, tables = numbers("clean", CLEAN[model, stack]) | values, [MAIN, NATURAL]
        groups = [WIDE_GROUPS] if model == WIDE and stack != "at" else []
        no_gain = [NO_GAIN] if dataset == "svhn" and stack == "rat_lr" else []
        yield PAPER.row(tuple(tables), name, stack, body, values, *of_code(body), *groups, *no_gain)


def trades_by_groups() -> Iterator[Recipe]:
    for layers, printed in BY_GROUPS.items():
        plugins: list[Any] = [{"trades": {"beta": 6.0}}]
        notes = ["TRADES as in the code of AWP."]
        if layers:
            plugins.append({"rat_wp": {"gamma": 0.005, "layers": list(layers), "start": 9}})
            notes.append(STARTS_LATER)
        if len(layers) == 4:
            notes.append("All groups are the whole network: this is TRADES-AWP.")
        body = in_awp_code("cifar10", "linf", *plugins, **KL)
        stack = f"trades_rat_wp_{''.join(map(str, layers))}" if layers else "trades"
        name = f"TRADES [{','.join(map(str, layers))}]" if layers else "TRADES"
        yield PAPER.row(GROUPS, name, stack, body, numbers("clean pgd-20 aa", printed), *notes)


def sweeps() -> Iterator[Recipe]:
    """The diagnostics of section 3: the paper prints curves for them, and no numbers."""
    for stack, (name, finding) in FINDINGS.items():
        plugin = SWEEPS[stack]
        settings: dict[str, Any] = {"layers": [3, 4], **({"gamma": 0.01} if plugin == "rat_wp" else {})}
        folder = "configs/papers/rat/cifar10/linf/preact_resnet18"
        command = (
            f"buttress compare {folder}/at.yaml \\\n  {folder}/{stack}.yaml \\\n  '{plugin}.layers={layer_sets(stack)}'"
        )
        yield PAPER.row(
            SWEEP,
            name,
            stack,
            as_printed("cifar10", "linf", {plugin: settings}),
            {},
            "One of a sweep over sets of layer groups (section 3), which this command runs, with the standard run:",
            command,
            f"The paper's finding, without numbers: {finding}",
        )


def of_network(model: str, body: Body) -> Body:
    return wide(body) if model == WIDE else body
