"""The lineage of TRADES and of the codes that began as its copies: TRADES, MART, FAT, GAIRAT, MAIL, Randomized AT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .papers import SETTINGS, TARGETS, of_paper
from .recipe import Body, Recipe

KL = {"loss": "kl", "start": "gaussian"}
"""Settings of the attack of TRADES, which goes up the divergence from the clean prediction."""
RANDOMIZED_AT: dict[str, Any] = {"randomized_at": {"forwards_each": 4, "noise_on": "named"}}
"""The public code for TRADES."""


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        bodies = {
            "trades": trades(dataset, norm),
            "mart": mart(dataset, norm),
            "fat": by_instance(dataset, norm, "fat", {"rises": [50, 90]}),
            "meat_fat": by_instance(dataset, norm, "fat", {"rises": [50, 90]}, {"meat": {"start": 60}}),
            "gairat": by_instance(dataset, norm, "gairat", {"begin": 59}),
            "mail": mail(dataset, norm),
            "randomized_at": randomized_at(dataset, norm),
        }
        for method, body in bodies.items():
            if method in ("trades", "mart") or (method, dataset, norm) in TARGETS:
                yield of_paper("TRADES", method, dataset, norm, body)


def lineage(
    dataset: str,
    norm: str,
    *plugins: Any,
    epochs: int,
    schedule: dict[str, Any],
    lr: float,
    decay: float,
    model: str = "preact_resnet18",
    **attack: Any,
) -> Body:
    """No normalisation, crop and flip, eval-mode attack, learning rate by epoch; with changes of its PGD."""
    step, test_step = ("15/255", "15/255") if norm == "l2" else (0.007, 0.003)
    pgd = {"steps": 10, "step_size": step, "attack_mode": "eval", **attack}
    return {
        "data": {"name": dataset, "validation": 0, "batch_size": 128},
        "model": {"name": model},
        "threat": {"norm": norm, "eps": "128/255" if norm == "l2" else 0.031},
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, {"pgd": pgd}, *plugins],
        "optimizer": {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": decay},
        "schedule": schedule,
        "epochs": epochs,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": test_step}}, "best_by": "test"},
    }


def trades(dataset: str, norm: str) -> Body:
    drops = {"name": "piecewise", "milestones": [74], "factor": 0.1}
    options: dict[str, Any] = {"epochs": 76, "schedule": drops, "lr": 0.1, "decay": 2e-4, "model": "wrn_34_10"}
    return lineage(dataset, norm, {"trades": {"beta": 6.0}}, **options, **KL)


def mart(dataset: str, norm: str) -> Body:
    drops = {"name": "piecewise", "milestones": [74, 89, 99], "factor": 0.1}
    options: dict[str, Any] = {"epochs": 120, "schedule": drops, "lr": 0.01, "decay": 3.5e-3}
    return lineage(dataset, norm, {"mart": {"lam": 5.0}}, **options, start="gaussian")


def mail(dataset: str, norm: str) -> Body:
    """MAIL's public code, its TRADES form: ResNet-18, weights from the first drop on."""
    drops = {"name": "piecewise", "milestones": [75, 90, 100], "factor": 0.1}
    settings = {"form": "trades", "beta": 5.0, "start": 75}
    options: dict[str, Any] = {"epochs": 120, "schedule": drops, "lr": 0.01, "decay": 3.5e-3}
    return lineage(dataset, norm, {"mail": settings}, **options, **KL)


def randomized_at(dataset: str, norm: str) -> Body:
    """The public code's settings on the ResNet-18 of PIAT's tables: drops by epoch from 99 and 149 on, eps 8/255."""
    drops = {"name": "piecewise", "milestones": [99, 149], "factor": 0.1}
    options: dict[str, Any] = {"epochs": 200, "schedule": drops, "lr": 0.1, "decay": 5e-4}
    return in_255ths(lineage(dataset, norm, RANDOMIZED_AT, **options, **KL))


def in_awp_code(dataset: str, norm: str, *plugins: Any, **settings: Any) -> Body:
    """AWP's code for TRADES: 200 epochs, drops at 100 and 150; with a ``model`` and changes of its PGD."""
    drops = {"name": "piecewise", "milestones": [100, 150], "factor": 0.1}
    options: dict[str, Any] = {"epochs": 200, "schedule": drops, "lr": 0.1, "decay": 5e-4, **settings}
    return in_255ths(lineage(dataset, norm, *plugins, **options))


def in_255ths(body: Body) -> Body:
    """L-inf: eps 8/255, and steps of 2/255 in training and test, in place of .031, .007 and .003."""
    if body["threat"]["norm"] == "l2":
        return body
    augment, pgd, *rest = body["plugins"]
    test = {"pgd": {"steps": 20, "step_size": "2/255"}}
    return {
        **body,
        "threat": {**body["threat"], "eps": "8/255"},
        "plugins": [augment, {"pgd": {**pgd["pgd"], "step_size": "2/255"}}, *rest],
        "evaluation": {**body["evaluation"], "attack": test},
    }


def by_instance(dataset: str, norm: str, attack: str, settings: dict[str, Any], *plugins: Any) -> Body:
    """FAT and GAIRAT: 120 epochs, a tenth, a hundredth and a 200th from epochs 59, 89 and 109 on; MEAT's WRN-34-10."""
    drops = {"name": "piecewise", "milestones": [59, 89, 109], "factor": [0.1, 0.1, 0.5]}
    options: dict[str, Any] = {"epochs": 120, "schedule": drops, "lr": 0.1, "decay": 2e-4, "model": "wrn_34_10"}
    body = lineage(dataset, norm, *plugins, **options)
    body = attacked_by(attack, body, **settings)
    body["evaluation"]["attack"]["pgd"]["step_size"] = 0.00775  # .031 / 4
    return body


def attacked_by(attack: str, body: Body, **settings: Any) -> Body:
    """The body with another attack in the place of PGD, and with its settings beside PGD's."""
    plugins = [{attack: {**plugin["pgd"], **settings}} if "pgd" in plugin else plugin for plugin in body["plugins"]]
    return {**body, "plugins": plugins}
