"""Launch the median as ``csrc/median/cuda_ops.cpp`` does, and compare it with a sort."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

import numpy as np

from tests.kernels.cuda_on_host.device import Device, address_of
from tests.kernels.cuda_on_host.numbers import Array, Number

MIDDLES = ("lower", "upper", "mean")


def draw(number: Number, n: int, size: int, seed: int = 0) -> Array:
    """``[n, size]`` stored numbers: normal ones, ties, both zeros, infinities, NaN, random bits, rising and falling."""
    rng = np.random.default_rng((seed, n, size))
    values = rng.normal(size=(n, size))
    rank = np.broadcast_to(np.arange(n)[:, None], (n, size)) * 0.25
    values = np.select(
        [np.arange(size) % 9 == kind for kind in range(1, 6)],
        [
            rng.integers(0, 3, size=(n, size)),
            rng.choice([0.0, -0.0], size=(n, size)),
            rng.choice([np.inf, -np.inf, 1.0], size=(n, size)),
            rank,
            -rank,
        ],
        values,
    )
    stored = number.narrow(values)
    bits = rng.integers(0, 2 * number.sign, size=(n, size), dtype=np.uint64).astype(number.bits).view(number.stored)
    stored = np.where(np.arange(size) % 9 == 6, bits, stored)
    one_of_each = np.arange(n)[:, None] == rng.integers(n, size=size)
    return np.where((np.arange(size) % 9 == 7) & one_of_each, number.nan(), stored)


def by_sort(number: Number, rows: Array, even: str) -> Array:
    """The median of ``[n, size]`` by sorting along n."""
    n = len(rows)
    keys = np.sort(number.keys(rows), axis=0)
    low, high = (number.from_keys(keys[rank]) for rank in ((n - 1) // 2, n // 2))
    result = {"lower": low, "upper": high}.get(even)
    if result is None or n % 2:
        half = number.wide(0.5)
        with np.errstate(invalid="ignore", over="ignore"):
            result = high if n % 2 else number.narrow(number.widen(low) * half + number.widen(high) * half)
    return np.where(np.isnan(number.widen(rows)).any(axis=0), number.nan(), result)


def launch(device: Device, number: Number, lists: Sequence[Array], even: str, *, shift: int = 0) -> list[Array]:
    """The medians of several arrays ``[n, size]``; each version begins ``shift`` elements off alignment."""
    n = len(lists[0])
    tile, in_launch = device.constant("median_tile"), device.constant("median_rows_in_launch")
    fields, tiles, tensors, outs = list[int](), 0, 0, []
    for rows in lists:
        size = rows.shape[1]
        outs.append(device.array(np.full(size, number.nan()), shift))
        if size == 0:
            continue
        addresses = [address_of(device.array(row, shift)) for row in rows]
        out = address_of(outs[-1])
        fields += [tiles, size, out, reduce(or_, addresses, out), *addresses]
        tiles += -(-size // tile)
        tensors += 1
    records = device.array(np.array(fields, np.int64))
    table = records if tensors > 1 or n > in_launch else None
    upper = (n - 1) // 2 if even == "lower" else n // 2
    lower, mean = n // 2 if even == "upper" else (n - 1) // 2, even == "mean" and n % 2 == 0
    device.call(
        "median", number.index, n, tensors, tiles, None if table is not None else records, table, lower, upper, mean
    )
    return outs


def check(device: Device, number: Number, n: int, sizes: Sequence[int], even: str, *, shift: int = 0) -> None:
    """Compare bit by bit, in one launch over arrays of these sizes."""
    lists = [draw(number, n, size, seed) for seed, size in enumerate(sizes)]
    with device.memory():
        for rows, out in zip(lists, launch(device, number, lists, even, shift=shift), strict=True):
            wanted = by_sort(number, rows, even)
            both_nan = np.isnan(number.widen(wanted)) & np.isnan(number.widen(out))
            wrong = np.flatnonzero((wanted.view(number.bits) != out.view(number.bits)) & ~both_nan)
            where = f"{number.name}, {n} rows of {rows.shape[1]}, {even}: wrong at {wrong[:5]}"
            assert not len(wrong), f"{where}: {out[wrong[:5]]}, expected {wanted[wrong[:5]]}"
