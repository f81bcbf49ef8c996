"""A random order of any number of elements in closed form: any part of it is computed without the rest."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from buttress.streams import seed_of

_ROUNDS = 12
# Odd constants of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): its output function mixes the bits of a number.
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = 0x9E3779B97F4A7C15


def permuted(positions: NDArray[np.int64], n: int, *key: object) -> NDArray[np.int64]:
    """Elements at ``positions [b]`` of a permutation of ``0 .. n-1`` that ``key`` chooses.

    It is a Feistel network on pairs whose number is just above ``n``: each of its rounds adds a keyed hash of one half
    to the other, which can be taken back, so that every element occurs exactly once. What falls on ``n`` or above is
    permuted again until it does not. Memory is that of ``positions``; no list of ``n`` elements is made.
    """
    rows = math.isqrt(n - 1) + 1 if n > 1 else 1
    columns = -(-n // rows)
    keys = [np.uint64((seed_of(key) + number * _GOLDEN) % 2**64) for number in range(_ROUNDS)]
    elements, outside = positions.astype(np.uint64), np.ones(len(positions), np.bool_)
    while outside.any():
        elements[outside] = _once(elements[outside], np.uint64(rows), np.uint64(columns), keys)
        outside = elements >= n
    return elements.astype(np.int64)


def _once(
    elements: NDArray[np.uint64], rows: np.uint64, columns: np.uint64, keys: list[np.uint64]
) -> NDArray[np.uint64]:
    row, column = np.divmod(elements, columns)
    for number, key in enumerate(keys):
        if number % 2:
            column = (column + _mixed(row ^ key) % columns) % columns
        else:
            row = (row + _mixed(column ^ key) % rows) % rows
    return row * columns + column


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX[0]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX[1]
    return numbers ^ (numbers >> np.uint64(31))
