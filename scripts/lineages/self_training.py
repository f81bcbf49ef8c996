"""RST on CIFAR-10, with RWP and with AMP, in the TRADES lineage: half of each batch has a teacher's labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import trades
from .recipe import Body, Published, Recipe

RST = {"rst": {"beta": 6.0}}
# Name to network, plugins beside RST, source, and its columns natural, PGD-20 and AutoAttack, of the best checkpoint.
METHODS: dict[str, tuple[str, list[Any], str, list[float]]] = {
    "rst": ("wrn_28_10", [], "Yu et al., arXiv:2205.14826, WRN-28-10", [89.69, 62.60, 59.53]),
    "rst_rwp": (
        "wrn_28_10",
        [{"rwp": {"gamma": 0.005, "c_min": 1.7, "k2": 10}}],
        "Yu et al., arXiv:2205.14826, WRN-28-10",
        [88.87, 64.11, 60.36],
    ),
    "rst_amp": (
        "wrn_34_10",
        [{"amp": {"delta": 0.1}}],
        "Yan et al., AT-AMP, WRN-34-10",
        [86.34, 61.86, 59.63],
    ),
}


def recipes() -> Iterator[Recipe]:
    for method, (model, plugins, source, values) in METHODS.items():
        head = f"{method} on cifar10, linf: the setting of its paper (TRADES lineage), not run here.\n"
        head += "Half of each batch are images with a teacher's labels, from a file that lies beside the config."
        published = Published(source, dict(zip(["clean best", "pgd-20 best", "aa best"], values, strict=True)))
        yield Recipe(f"cifar10/linf/{method}", head, rst(model, *plugins), published)


def rst(model: str, *plugins: Any) -> Body:
    """200 epochs of 50,000 examples, half of each batch of 256 from 500,000 images with a teacher's labels."""
    cosine = {"name": "cosine", "per": "epoch"}
    options: dict[str, Any] = {"epochs": 200, "schedule": cosine, "lr": 0.1, "decay": 5e-4, "model": model}
    body = trades.lineage("cifar10", "linf", RST, *plugins, **options, **trades.KL)
    body["data"] |= {"batch_size": 256, "extra": {"name": "npz", "path": "cifar10_extra.npz", "share": "1/2"}}
    body["optimizer"]["nesterov"] = True
    return body
