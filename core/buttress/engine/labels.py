"""Check labels, classes of the model ``[B]`` or rows of probabilities ``[B,K]``, and what else comes with examples."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from buttress.nn.contract import form_of, is_dense
from buttress.types import Batch


def wrong_kind_of_labels(batch: Batch) -> str:
    """A sentence about labels or positions of a wrong type, shape or device, or nothing."""
    x, y, index = batch.x, batch.y, batch.index
    good_kind = is_dense(y) and (y.is_floating_point() if y.dim() == 2 else y.dim() == 1 and y.dtype == torch.int64)
    if not good_kind or len(y) != len(x) or y.device != x.device:
        return f"expected int64 labels [{len(x)}] or soft labels [{len(x)},K] on {x.device}, got {form_of(y)}"
    if index is not None and (not isinstance(index, Tensor) or index.dtype != torch.int64 or index.shape != (len(x),)):
        return f"expected int64 positions index [{len(x)}] or None, got {form_of(index)}"
    return ""


def wrong_kind_of_aux(batch: Batch) -> str:
    """A sentence about a tensor in ``batch.aux`` of a wrong name, length or device, or with a graph; or nothing."""
    if not isinstance(batch.aux, Mapping):
        return f"expected aux to be a mapping of names to tensors, got {form_of(batch.aux)}"
    for name, value in batch.aux.items():
        if not isinstance(name, str):
            return f"expected names in aux that are text, got {name!r}"
        good_kind = is_dense(value) and value.dim() > 0 and len(value) == len(batch.x)
        if not good_kind or value.device != batch.x.device:
            return f"aux {name!r}: expected a tensor [{len(batch.x)},...] on {batch.x.device}, got {form_of(value)}"
        if value.requires_grad:
            return f"aux {name!r}: expected a detached tensor, got one with a graph; give its detach()"
    return ""


def are_positions(index: Tensor, examples: int) -> Tensor:
    """A 0-dim bool on the device: positions ``[B]`` from 0 to ``examples - 1``."""
    low, high = torch.aminmax(index)
    return (low >= 0) & (high < examples)


# Largest error of soft labels as probabilities: that of a sum of a hundred of them in bfloat16.
_SUM_TOLERANCE = 1e-2


def are_labels(y: Tensor, classes: int | None) -> Tensor:
    """A 0-dim bool on the device: labels ``[B]`` from 0 to ``classes - 1``, or rows of probabilities ``[B,K]``."""
    low, high = torch.aminmax(y)
    if y.dim() == 2:
        return (low >= -_SUM_TOLERANCE) & ((y.sum(1) - 1).abs().amax() <= _SUM_TOLERANCE)
    return low >= 0 if classes is None else (low >= 0) & (high < classes)


def first_wrong_label(y: Tensor, classes: int | None) -> str:
    """A sentence about the first label, or row, for which ``are_labels`` is false; synchronises with the device."""
    if y.dim() == 2:
        wrong = (~((y >= -_SUM_TOLERANCE).all(1) & ((y.sum(1) - 1).abs() <= _SUM_TOLERANCE))).nonzero()
        row = y[int(wrong[0])].tolist()
        shown = ", ".join(f"{value:.4g}" for value in row[:4]) + (", ..." if len(row) > 4 else "")
        return (
            f"expected soft labels whose rows are probabilities (not negative, of sum 1), got [{shown}] of sum "
            f"{sum(row):.4g} at position {int(wrong[0])}; divide each row by its sum, or give int64 labels [B]"
        )
    wrong = ((y < 0) | (y >= (classes or torch.inf))).nonzero()
    expected = "labels >= 0" if classes is None else f"labels from 0 to {classes - 1}, the model's {classes} classes"
    return (
        f"expected {expected}, got {int(y[wrong[0]])} at position {int(wrong[0])}; number the classes from 0, leave "
        "out examples without a label, or give the model more outputs"
    )
