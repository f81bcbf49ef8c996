"""The lineage of TRADES and of the codes that began as its copies: TRADES, MART, FAT, GAIRAT, MAIL, Randomized AT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .papers import SETTINGS, TARGETS, of_paper
from .recipe import Body, Recipe

KL = {"loss": "kl", "start": "gaussian"}
"""Settings of the attack of TRADES, which goes up the divergence from the clean prediction."""


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
    options: dict[str, Any] = {"epochs": 200, "schedule": drops, "lr": 0.1, "decay": 5e-4, "step_size": "2/255"}
    body = lineage(dataset, norm, "randomized_at", **options, **KL)
    test = {"pgd": {"steps": 20, "step_size": "2/255"}}
    return {**body, "threat": {"norm": norm, "eps": "8/255"}, "evaluation": {**body["evaluation"], "attack": test}}


def by_instance(dataset: str, norm: str, attack: str, settings: dict[str, Any], *plugins: Any) -> Body:
    """FAT and GAIRAT: 120 epochs, a tenth, a hundredth and a 200th from epochs 59, 89 and 109 on; MEAT's WRN-34-10."""
    knots, factors = [58, 59, 88, 89, 108, 109], [1.0, 0.1, 0.1, 0.01, 0.01, 0.005]
    drops = {"name": "linear", "knots": knots, "factors": factors, "final": 0.005}
    options: dict[str, Any] = {"epochs": 120, "schedule": drops, "lr": 0.1, "decay": 2e-4, "model": "wrn_34_10"}
    body = lineage(dataset, norm, *plugins, **options)
    augment, pgd, *rest = body["plugins"]
    body["plugins"] = [augment, {attack: {**pgd["pgd"], **settings}}, *rest]
    body["evaluation"]["attack"]["pgd"]["step_size"] = 0.00775  # .031 / 4
    return body
