"""Arrays of more than 2^31 elements, in memory of which the system has only the pages that are touched.

Only the last block of each launch runs; what it reads is set, all else is 0.
"""

import mmap
from typing import Any

import numpy as np

from tests.kernels.cuda_on_host.device import Device, address_of
from tests.kernels.cuda_on_host.losses import exact
from tests.kernels.cuda_on_host.numbers import FLOAT16, Array
from tests.kernels.cuda_on_host.perturbations import Item

_NORESERVE = 0x4000  # MAP_NORESERVE of Linux


def sparse(size: int, dtype: Any) -> Array:
    """``[size]`` zeros."""
    memory = mmap.mmap(-1, size * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | _NORESERVE)
    return np.frombuffer(memory, dtype)


def ending(size: int, values: Array) -> Array:
    """``[size]`` zeros, but for the last elements."""
    array = sparse(size, values.dtype)
    array[-len(values) :] = values
    return array


def check_median(device: Device) -> None:
    """The last tile that the last block of a full grid takes."""
    tile = device.constant("median_tile")
    size = 2**31 + 2**16 * tile - 3
    values = np.arange(15, dtype=np.float16).reshape(3, 5)
    rows, out = [ending(size, row) for row in values], sparse(size, np.float16)
    with device.memory(), device.order(only_last=True):
        records = device.array(np.array([0, size, address_of(out), 0, *map(address_of, rows)]))  # page by page
        device.call("median", FLOAT16.index, 3, 1, -(-size // tile), records, None, 1, 1, False)
    assert np.array_equal(out[-6:], [0, *values[1]]), "median: wrong beyond 2^31 elements"


def check_losses(device: Device) -> None:
    """The last eight examples of a batch whose logits are 2^32, and which a full grid takes in two turns."""
    batch, classes = 2**20, 2**12
    logits = np.random.default_rng(0).normal(size=(8, classes)).astype(np.float32)
    values, out = ending(batch * classes, logits.ravel()), sparse(batch * classes, np.float32)
    targets, losses, rows = sparse(batch, np.int64), sparse(batch, np.float32), sparse(2 * batch, np.float32)
    grad = np.array([batch], np.float32)
    with device.order(only_last=True):
        device.call("lsc_losses_float", values, targets, batch, classes, 100.0, True, losses, rows)
        device.call("lsc_gradients_float", values, targets, batch, classes, rows, grad, out)
    wanted, gradients = exact(logits, np.zeros(8, np.int64))
    np.testing.assert_allclose(losses[-8:], wanted, rtol=1e-5, err_msg="losses of rows beyond 2^31 logits")
    np.testing.assert_allclose(out[-8 * classes :].reshape(8, -1), gradients, rtol=1e-4, atol=1e-6)
    untouched, first_turn = losses[: batch // 2 - 8], losses[batch // 2 - 8 : batch // 2]
    assert not untouched[-100:].any(), "another block's losses were written"
    np.testing.assert_allclose(first_turn, np.log(classes), rtol=1e-6, err_msg="losses of the first turn")


def check_mask(device: Device) -> None:
    """Losses that a full grid takes in two turns."""
    size = 2**25
    losses, out = ending(size, np.array([2, 0, 2], np.float64)), sparse(size, np.float64)
    with device.order(only_last=True):
        device.call("lsc_mask_double", losses, size, 1.0, True, np.array([float(size)]), out)
    assert out[-4:].tolist() == [1, 0, 1, 0], "mask: wrong in the last turn"
    assert out[size // 2 - 257 : size // 2].tolist() == [0] + 256 * [1], "mask: wrong in the first turn"


def check_perturb(device: Device) -> None:
    """The last block of a parameter of more than 2^31 elements: the sums of all others are 0."""
    block = device.constant("perturb_block")
    size = 2**31 + 5
    blocks = -(-size // block)
    weight, direction = (ending(size, np.array(x, np.float16)) for x in ([3, 0, 0, 0, 4], [0, 2, 0, 0, 0]))
    item = Item(FLOAT16.index, size, 0, address_of(weight), address_of(direction), None, None)
    partial, sums = sparse(3 * blocks, np.float64), sparse(3, np.float64)
    with device.memory(), device.order(only_last=True):
        table = device.array(np.frombuffer(bytes(item), np.uint8))
        device.call("perturb", table, 1, blocks, partial, sums, 0.5, True)
    assert weight[-6:].tolist() == [0, 3, 2.5, 0, 0, 4], "perturb: wrong beyond 2^31 elements"
