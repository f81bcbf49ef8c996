"""Launch the kernels under the loss-stationary condition; compare them with the formulas in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.kernels.cuda_on_host.device import Device
from tests.kernels.cuda_on_host.numbers import Array

KINDS = {"float": (np.float32, 2e-5), "double": (np.float64, 1e-12)}
"""Types of the kernels: that of NumPy, and the error allowed."""


@dataclass
class Outcome:
    """Results of all four kernels for one batch."""

    losses: Array
    mean: Array
    kept: Array
    gradients: Array
    mask: Array
    mean_alone: Array


def draw(batch: int, classes: int, kind: str, *, odd: bool) -> tuple[Array, Array]:
    """Logits ``[batch, classes]`` and targets, with infinities, NaN, large numbers and wrong classes if ``odd``."""
    rng = np.random.default_rng((batch, classes))
    logits = rng.normal(size=(batch, classes)) * 3
    targets = rng.integers(classes, size=batch)
    if odd:
        logits[0::7] += 1e4
        logits[1::7, 0] = -np.inf
        logits[2::7, -1] = np.inf
        logits[3::7, classes // 2] = np.nan
        targets[4::7] = np.where(np.arange(len(targets[4::7])) % 2, classes, -1)
    return logits.astype(KINDS[kind][0]), targets


def threshold(losses: Array) -> float:
    """A number in the widest gap between the middle losses, so that rounding moves none across."""
    ordered = np.unique(losses[np.isfinite(losses)])
    if len(ordered) < 2:
        return 1.0
    middle = ordered[len(ordered) // 4 : len(ordered) // 4 * 3 + 2]
    gap = int(np.argmax(np.diff(middle)))
    return float(middle[gap] + middle[gap + 1]) / 2


def launch(
    device: Device, kind: str, logits: Array, targets: Array, c_min: float, inclusive: bool, grad: float
) -> Outcome:
    """Forward and backward of the cross-entropy, then of the mean of its losses."""
    dtype, (batch, classes) = KINDS[kind][0], logits.shape
    values, wanted = device.array(logits), device.array(targets)
    losses, rows, out, mask = (device.empty(size, dtype) for size in (batch, 2 * batch, logits.size, batch))
    mean, mean_alone, upstream = (device.array(np.array([x], dtype)) for x in (np.nan, np.nan, grad))
    kept = device.array(np.array([-1]))
    device.call(f"lsc_losses_{kind}", values, wanted, batch, classes, c_min, inclusive, losses, rows)
    device.call(f"lsc_mean_{kind}", losses, rows, batch, c_min, inclusive, mean, kept)
    device.call(f"lsc_gradients_{kind}", values, wanted, batch, classes, rows, upstream, out)
    device.call(f"lsc_mean_{kind}", losses, None, batch, c_min, inclusive, mean_alone, kept)
    device.call(f"lsc_mask_{kind}", losses, batch, c_min, inclusive, upstream, mask)
    return Outcome(*(array.copy() for array in (losses, mean, kept, out.reshape(logits.shape), mask, mean_alone)))


def exact(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Losses and gradients of each in float64; NaN where the target is no class."""
    wide, classes = logits.astype(np.float64), logits.shape[1]
    known = (targets >= 0) & (targets < classes)
    column = np.where(known, targets, 0)[:, None]
    with np.errstate(invalid="ignore"):
        shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - np.take_along_axis(shifted, column, axis=1)[:, 0]
        gradients = exponentials / total - (np.arange(classes) == column)
    return np.where(known, losses, np.nan), gradients


def check(
    device: Device, kind: str, batch: int, classes: int, *, inclusive: bool = True, odd: bool = False, c_min: Any = None
) -> None:
    """Compare losses, mean, number kept, both gradients."""
    logits, targets = draw(batch, classes, kind, odd=odd)
    losses, gradients = exact(logits, targets)
    c_min = threshold(losses) if c_min is None else c_min
    with device.memory():
        got = launch(device, kind, logits, targets, c_min, inclusive, grad=1.5)
    kept = losses <= c_min if inclusive else losses < c_min
    size, total = max(batch, 1), np.where(kept, losses, 0.0).sum()
    unknown = ((targets < 0) | (targets >= classes)).any()
    where = f"{kind}, {batch} x {classes}"
    assert got.kept[0] == kept.sum(), f"{where}: kept {got.kept[0]}, expected {kept.sum()}"
    share = np.where(kept, 1.5 / size, 0.0)
    _close(f"{where}: losses", kind, got.losses, losses)
    _close(f"{where}: mean", kind, got.mean[0], np.nan if unknown else total / size)
    _close(f"{where}: mean of losses", kind, got.mean_alone[0], total / size)
    _close(f"{where}: mask", kind, got.mask, share)
    _close(f"{where}: gradients", kind, got.gradients, _expected_gradients(kept, gradients, share, targets))


def _expected_gradients(kept: Array, gradients: Array, share: Array, targets: Array) -> Array:
    """0 where an example is not kept; NaN where its target is no class."""
    classes = gradients.shape[1]
    unknown = (targets < 0) | (targets >= classes)
    expected = np.where(kept[:, None], gradients * share[:, None], 0.0)
    return np.where(unknown[:, None], np.nan, expected)


def _close(what: str, kind: str, got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=KINDS[kind][1], atol=KINDS[kind][1], err_msg=what)
