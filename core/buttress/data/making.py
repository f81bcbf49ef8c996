"""Random choices while a data set is made: examples held out, labels flipped."""

import numpy as np
import torch
from torch import Tensor

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
