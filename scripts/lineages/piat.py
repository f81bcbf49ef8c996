"""PIAT's settings, in the TRADES lineage: PIAT with NMSE, ALP, PIAT with MAIL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import trades
from .papers import SETTINGS, TARGETS, of_paper
from .recipe import Body, Recipe


def recipes() -> Iterator[Recipe]:
    for dataset, norm in SETTINGS:
        bodies = {
            "piat_nmse": piat(dataset, norm, "piat", {"nmse": {"mu": 4.0}}),
            "alp": piat(dataset, norm, {"alp": {"weight": 0.5}}),
        }
        if ("piat_mail", dataset, norm) in TARGETS:
            bodies["piat_mail"] = piat_mail(dataset, norm)
        for method, body in bodies.items():
            yield of_paper("TRADES", method, dataset, norm, body)


def piat(dataset: str, norm: str, *plugins: Any, **attack: Any) -> Body:
    """ResNet-18, 120 epochs: constant until 60, then linear to a tenth at 90 and a hundredth at the end."""
    schedule = {"name": "linear", "knots": [60, 90], "factors": [1.0, 0.1], "final": 0.01}
    options: dict[str, Any] = {"epochs": 120, "schedule": schedule, "lr": 0.01, "decay": 3.5e-3}
    # PIAT's tables do not say .031; 8/255 and 2/255 are the project's default.
    return trades.in_255ths(trades.lineage(dataset, norm, *plugins, **options, **attack))


MAIL: dict[str, Any] = {"mail": {"form": "trades", "beta": 5.0, "start": 0.625}}
"""MAIL's public code, whose weights begin at this share of its own 120 epochs."""


def piat_mail(dataset: str, norm: str) -> Body:
    return wide(piat(dataset, norm, "piat", MAIL, **trades.KL))


def wide(body: Body) -> Body:
    """WRN-32-10, 180 epochs: constant until 90, linear to a tenth at 135 and a hundredth at the end."""
    return {
        **body,
        "model": {"name": "wrn_32_10"},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 7e-4},
        "schedule": {"name": "linear", "knots": [90, 135], "factors": [1.0, 0.1], "final": 0.01},
        "epochs": 180,
    }
