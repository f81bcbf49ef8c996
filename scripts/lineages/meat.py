"""MEAT's WRN-34-10 in the RO lineage: MEAT, IDBH, both together, and CCG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .papers import SETTINGS, TARGETS, of_paper
from .recipe import Body, Recipe
from .ro import ro


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        yield of_paper("RO", "meat", dataset, norm, meat(dataset, norm))
        for method, base in {"idbh": wide(ro(dataset, norm)), "meat_idbh": meat(dataset, norm)}.items():
            yield of_paper("RO", method, dataset, norm, with_idbh(dataset, base))
        if ("consistency", dataset, norm) in TARGETS:
            yield of_paper("RO", "consistency", dataset, norm, consistency(dataset, norm))


def wide(body: Body) -> Body:
    return {**body, "model": {**body["model"], "name": "wrn_34_10"}}


MEAT: dict[str, Any] = {"meat": {"start": 60}}


def meat(dataset: str, norm: str) -> Body:
    return setting(dataset, norm, MEAT)


def setting(dataset: str, norm: str, *plugins: Any, **attack: Any) -> Body:
    """120 epochs: constant until 40, linear to a tenth at 80 and a hundredth at the end."""
    body = wide(ro(dataset, norm, *plugins, **{"attack_mode": "eval", **attack}))
    schedule = {"name": "linear", "knots": [40, 80], "factors": [1.0, 0.1], "final": 0.01}
    return {**body, "optimizer": {**body["optimizer"], "lr": 0.1}, "schedule": schedule, "epochs": 120}


def with_idbh(dataset: str, body: Body) -> Body:
    """IDBH's transform, which takes the place of crops and flips."""
    idbh = {"idbh": {"variant": "svhn" if dataset == "svhn" else "weak"}}
    return {**body, "plugins": [idbh, *(plugin for plugin in body["plugins"] if "augment" not in plugin)]}


def consistency(dataset: str, norm: str) -> Body:
    """CCG: 2 x 128 augmented images a batch, AutoAugment from half-time on, attack in eval mode."""
    return in_two_views(wide(ro(dataset, norm, attack_mode="eval")))


def in_two_views(body: Body) -> Body:
    augment, *rest = body["plugins"]
    plugins: list[Any] = ["consistency", augment, "autoaugment", *rest]
    return {**body, "plugins": plugins}
