"""Random choices while a data set is made: examples held out, parts drawn by class, labels flipped."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from buttress.data.split import Data
from buttress.errors import DataError
from buttress.settings import resolve_amount


def hold_out(y: Tensor, amount: int | float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions of held-out examples, drawn stratified by their labels ``y [n]``, and of all others; both in order.

    ``amount`` is their number, or a float in (0, 1): their share of ``n``, floored.

    Raises:
        DataError: too few examples.
    """
    count = resolve_amount(amount, len(y))
    if count == 0 and amount:
        raise DataError(f"validation: a share of {amount:g} of {len(y)} examples is none; expected at least 1/{len(y)}")
    if not 0 < count < len(y):
        raise DataError(f"validation: expected less than {len(y)} examples, got {count}")
    from sklearn.model_selection import train_test_split  # slow to import, and not every data set is split here

    try:
        held, kept = train_test_split(
            np.arange(len(y)), train_size=count, stratify=y.numpy(), random_state=int(rng.integers(2**31))
        )
    except ValueError as problem:  # a class with too few examples
        raise DataError(f"validation: cannot be held out stratified: {problem}") from None
    return np.sort(held), np.sort(kept)


def draw_parts(
    y: Tensor, num_classes: int, per_class: Mapping[str, int], rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw disjoint parts of the examples with labels ``y [n]``, each with as many examples of every class.

    Args:
        y: ``[n]`` labels in ``[0, num_classes)``.
        num_classes: number of classes.
        per_class: number of examples of every class in each part, by the name of the setting that says it.
        rng: random numbers.

    Returns:
        Positions of each part in the order of ``per_class``, and of the examples in none; all in order.

    Raises:
        DataError: a class has fewer examples than the parts need; names the settings.
    """
    of_class = [rng.permutation(np.flatnonzero(y.numpy() == k)) for k in range(num_classes)]
    fewest, ends = min(map(len, of_class)), np.cumsum(list(per_class.values()))
    if ends[-1] > fewest:
        together = " together" if len(per_class) > 1 else ""
        raise DataError(
            f"expected {' and '.join(per_class)} of at most {fewest}{together}, which every class has, got "
            f"{' and '.join(map(str, per_class.values()))}"
        )
    pieces = zip(*(np.split(positions, ends) for positions in of_class), strict=True)
    *parts, rest = (np.sort(np.concatenate(piece)) for piece in pieces)
    return parts, rest


def flip_labels(y: Tensor, share: float, num_classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Move a share of the labels ``y [n]`` to a uniformly drawn other class.

    Returns:
        ``[n]`` labels, and ``[n]`` bools that mark the ``round(share * n)`` moved ones.
    """
    count = round(share * len(y))
    moved = torch.from_numpy(rng.permutation(len(y))[:count])
    offset = torch.from_numpy(rng.integers(1, num_classes, size=count))
    noisy = y.clone()
    noisy[moved] = (y[moved] + offset) % num_classes
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[moved] = True
    return noisy, mask


def add_label_noise(data: Data, share: float, rng: np.random.Generator) -> Data:
    """The data with a share of the training labels moved to another class, which its notes list.

    ``true_labels`` are those before; without noise (a share of 0) there are none.
    """
    noisy, moved = flip_labels(data.train.y, share, data.num_classes, rng)
    train = copy(data.train)
    train.y = noisy
    notes = {"flipped_labels": int(moved.sum()), "flipped_index": moved.nonzero()[:, 0].tolist()}
    return replace(data, train=train, notes={**data.notes, **notes}, true_labels=data.train.y if share else None)
