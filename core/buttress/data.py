"""Splits of a data set: checked before step 1, moved to the device, ordered by the seed; and how they are made."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from buttress.errors import ConfigError, DataError
from buttress.nn.contract import is_dense
from buttress.settings import resolve_amount
from buttress.storage.fingerprints import sha256_of_tensor
from buttress.streams import seeded_generator
from buttress.threat import ThreatModel
from buttress.types import Batch


class Split:
    """Examples in memory.

    A data set too big for memory overrides every method; nothing else of the core touches the tensors.

    Args:
        x: ``[n,*]`` floating-point inputs inside the box.
        y: ``[n]`` int64 labels.
        memory_format: of the batches' inputs.

    Raises:
        DataError: x or y is no dense tensor, or they differ in length.
    """

    def __init__(self, x: Tensor, y: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> None:
        for name, value in (("x", x), ("y", y)):
            if not is_dense(value) or value.dim() == 0:
                raise DataError(f"Split: expected {name} to be a dense tensor [n,*], got {_kind_of(value)}")
        if len(x) != len(y):
            raise DataError(f"Split: expected a label for each input, got {len(x)} inputs and {len(y)} labels")
        self.x, self.y, self.memory_format = x, y, memory_format

    def __len__(self) -> int:
        return len(self.y)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Every input finite and inside the box, every label in range.

        Raises:
            DataError: names the split (``name``), the position and the value of the first example that is not.
        """
        check_inputs(f"data, split {name}", self.x, threat)
        check_labels(f"data, split {name}", self.y, num_classes)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> Split:
        """The same examples on a device, with batches in a memory format."""
        return Split(self.x.to(device), self.y.to(device), memory_format)

    def fingerprint(self) -> dict[str, Any]:
        """What a run records, to notice later that the examples are others: ``n``, and sha256 of the tensors.

        A split without tensors that does not override this is known by the number and the shape of its examples alone.
        """
        tensors = {"inputs": getattr(self, "x", None), "labels": getattr(self, "y", None)}
        hashes = {name: sha256_of_tensor(found) for name, found in tensors.items() if isinstance(found, Tensor)}
        return {"n": len(self), "shape": list(self.example_shape), **hashes}

    def extent(self) -> tuple[float, float] | None:
        """The least and the greatest value of all inputs; None where the inputs are not in memory."""
        x = getattr(self, "x", None)
        return None if x is None else (x.amin().item(), x.amax().item())

    def class_counts(self, num_classes: int) -> list[int] | None:
        """The number of examples of each class; None where the labels are not in memory."""
        y = getattr(self, "y", None)
        return None if y is None else torch.bincount(y, minlength=num_classes).tolist()

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Batches of ``order`` (``[n]`` int64 positions, on the CPU), from batch number ``start`` on."""
        order = order.to(self.y.device)
        for first in range(start * batch_size, len(order), batch_size):
            index = order[first : first + batch_size]
            yield Batch(self.x[index].contiguous(memory_format=self.memory_format), self.y[index], index)


@dataclass(frozen=True)
class Data:
    """What a data set plugin loads.

    Args:
        train: training split.
        test: test split, never used to choose anything.
        num_classes: K; labels are 0 .. K-1.
        validation: held-out split on which the best epoch is chosen, or None.
        notes: facts that belong in the manifest (sizes, injected label noise).
        true_labels: ``[n]`` labels of the training split before noise was injected into them, or None where none was.
    """

    train: Split
    test: Split
    num_classes: int
    validation: Split | None = None
    notes: Mapping[str, object] = field(default_factory=dict)
    true_labels: Tensor | None = None

    def __post_init__(self) -> None:
        with suppress(TypeError):  # no integer of any kind: ``check_data`` says so
            object.__setattr__(self, "num_classes", operator.index(self.num_classes))

    def splits(self) -> dict[str, Split]:
        """Split by name, in the order train, validation, test; a missing validation split is left out."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @cached_property
    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Split name to the fingerprint of its examples; computed once."""
        return {name: split.fingerprint() for name, split in self.splits().items()}


def check_data(data: Data, threat: ThreatModel) -> None:
    """Every example inside the box and finite, every label in range; splits of one shape and dtype.

    Raises:
        DataError: names the field of ``data``, or split, position and value of the first example that is wrong.
    """
    _check_fields(data)
    shape, dtype = data.train.example_shape, _dtype_of(data.train)
    for name, split in data.splits().items():
        if len(split) == 0:
            raise DataError(f"data, split {name}: expected at least one example, got none")
        if split.example_shape != shape:
            raise DataError(f"data, split {name}: expected inputs of shape {shape}, got {split.example_shape}")
        split.check(name, data.num_classes, threat)
        if _dtype_of(split) != dtype:
            raise DataError(
                f"data, split {name}: expected inputs of {dtype}, as in the train split, got {_dtype_of(split)}"
            )


def _check_fields(data: Data) -> None:
    """What is no example: the splits themselves, the number of classes, notes and true labels."""
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        if not (isinstance(split, Split) or (split is None and name == "validation")):
            raise DataError(f"data, split {name}: expected a buttress.Split, got {_kind_of(split)}")
    if not isinstance(data.num_classes, int) or data.num_classes < 2:
        raise DataError(f"data: expected num_classes to be an int >= 2, got {data.num_classes!r}")
    try:
        json.dumps(dict(data.notes))
    except (TypeError, ValueError) as problem:
        raise DataError(f"data: notes go into a JSON file, and hold what does not: {problem}") from None
    true = data.true_labels
    if true is not None:
        if not isinstance(true, Tensor) or true.shape != (len(data.train),):
            raise DataError(f"data: expected true_labels of shape ({len(data.train)},), got {_kind_of(true)}")
        check_labels("data, true_labels", true, data.num_classes)


def _dtype_of(split: Split) -> torch.dtype | None:
    """Of the inputs; None where they are not in memory."""
    x = getattr(split, "x", None)
    return None if x is None else x.dtype


def _kind_of(value: object) -> str:
    """``"a list"``, ``"a complex64 tensor of shape (8, 3)"``."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_nested:  # it has no shape
        return "a nested tensor"
    words = ([] if value.layout == torch.strided else ["sparse"]) + [str(value.dtype).removeprefix("torch."), "tensor"]
    article = "an" if words[0].startswith("int") else "a"
    return f"{article} {' '.join(words)} of shape {tuple(value.shape)}"


def check_inputs(what: str, x: Tensor, threat: ThreatModel) -> None:
    """Inputs ``x [n,*]``: dense, floating-point, finite and inside the box.

    Raises:
        DataError: names ``what``, and the position and values of the first that is not.
    """
    if not is_dense(x) or x.dim() < 2 or not x.is_floating_point() or x[:1].numel() == 0:
        cure = "; divide images by 255" if isinstance(x, Tensor) and x.dtype == torch.uint8 else ""
        raise DataError(f"{what}: expected inputs [n,*] in a dense floating-point tensor, got {_kind_of(x)}{cure}")
    flat = x.flatten(1)
    bad = (~torch.isfinite(flat)).any(1).nonzero()
    if len(bad):
        raise DataError(f"{what}: NaN or infinity in example {int(bad[0])}; remove or repair it")
    if threat.box is None:
        return
    low, high = threat.box
    bad = ((flat < low) | (flat > high)).any(1).nonzero()
    if len(bad):
        worst = flat[int(bad[0])]
        raise DataError(
            f"{what}: example {int(bad[0])} lies outside of the box: expected values in "
            f"[{low:g}, {high:g}], got [{float(worst.min()):g}, {float(worst.max()):g}]; scale the inputs "
            "(normalisation belongs into the model), or set threat.box"
        )


def check_labels(what: str, y: Tensor, num_classes: int) -> None:
    """Labels ``y [n]``: int64, from 0 to ``num_classes - 1``.

    Raises:
        DataError: names ``what``, and the position and value of the first that is not.
    """
    if not is_dense(y) or y.dim() != 1 or y.dtype != torch.int64:
        raise DataError(f"{what}: expected labels [n] in an int64 tensor, got {_kind_of(y)}")
    bad = ((y < 0) | (y >= num_classes)).nonzero()
    if len(bad):
        at = int(bad[0])
        raise DataError(
            f"{what}: label out of range at example {at}: expected 0 to {num_classes - 1}, got {int(y[at])}; renumber "
            "the labels or set num_classes"
        )


def count_classes(what: str, y: Tensor) -> int:
    """The number of classes of training labels ``y [n]``, where nobody has said it: from 0 without a gap.

    Raises:
        DataError: names ``what``; a class below the largest label has no example, so that the number is a guess.
    """
    found = torch.unique(y).tolist()
    if found[0] < 0:  # no gap, but a wrong label: ``check_labels`` says at which example
        return max(2, int(found[-1]) + 1)
    if found == list(range(len(found))):
        return len(found)
    shown = ", ".join(map(str, found[:5])) + (f" ... {found[-1]}" if len(found) > 5 else "")
    raise DataError(
        f"{what}: expected labels from 0 to {len(found) - 1} for {len(found)} classes, got {shown}; renumber them, or "
        "set num_classes if there are classes without an example"
    )


def hold_out(y: Tensor, amount: int | float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions of some examples with labels ``y [n]``, drawn stratified, and of all others; both in order.

    ``amount`` is their number, or a float in (0, 1): their share of ``n``, floored.

    Raises:
        DataError: too few examples.
    """
    count = resolve_amount(amount, len(y))
    if count == 0 and amount:
        raise DataError(f"validation: a share of {amount:g} of {len(y)} examples is none; expected at least 1/{len(y)}")
    if not 0 < count < len(y):
        raise DataError(f"validation: expected less than {len(y)} examples, got {count}")
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


def subset(n: int, examples: int | None) -> Tensor:
    """The positions that ``--examples`` means in a split of ``n``, for every command that takes a part of one.

    Returns:
        ``[min(n, examples)]`` positions in order, on the CPU; all for None. They depend on the two numbers alone: two
        commands take the same examples. A smaller subset lies within a larger one.

    Raises:
        ConfigError: fewer than one.
    """
    if examples is None:
        return torch.arange(n)
    if examples < 1:
        raise ConfigError(f"--examples {examples}: expected a number >= 1")
    order = torch.randperm(n, generator=seeded_generator("cpu", "evaluation", "subset"))
    return order[:examples].sort().values


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """``[n]`` positions of the training set in the order of one epoch: fixed by (seed, epoch), new each epoch."""
    return torch.randperm(n, generator=seeded_generator("cpu", seed, "data", "order", epoch))


def steps_per_epoch(split: Split, batch_size: int, drop_last: bool) -> int:
    """Batches an epoch.

    Raises:
        DataError: none, because the batch is larger than the split and incomplete batches are dropped.
    """
    steps = len(split) // batch_size if drop_last else -(-len(split) // batch_size)
    if steps == 0:
        raise DataError(
            f"data.batch_size: {batch_size} is more than the {len(split)} training examples, with drop_last"
        )
    return steps


def fixed_order(n: int, seed: int) -> Tensor:
    """``[n]`` positions of the training set, shuffled once for the whole run, to measure statistics on."""
    return torch.randperm(n, generator=seeded_generator("cpu", seed, "data", "fixed order"))
