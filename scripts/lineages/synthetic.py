"""TRADES with a file of further images in every batch, labelled by a run: ``make compare-synthetic`` makes the file.

The share of further images is that of Wang et al., "Better Diffusion Models Further Improve Adversarial Training",
ICML 2023, for CIFAR-10; noisy copies of the training images stand in for the images of a generator.
"""

from __future__ import annotations

from collections.abc import Iterator

from .digits import KL, TRADES, digits
from .recipe import Recipe

COPIES = "runs/synthetic/copies.npz"


def recipes() -> Iterator[Recipe]:
    yield Recipe(
        "digits/trades_synthetic",
        "trades_synthetic on label-noise digits: a fifth of the training labels wrong on purpose.\n"
        "Of each batch 70 % are noisy copies of training images with the labels of another run, which have to be made "
        "first:\nmake compare-synthetic",
        digits(KL, TRADES, data={"split_seed": 0, "extra": {"file": COPIES, "share": 0.7, "labels": "pseudo"}}),
    )
