"""Data on its way into a run: checked before step 1, moved to the device, ordered by the seed."""

import torch
from torch import Tensor

from buttress.context import seeded_generator
from buttress.errors import DataError
from buttress.threat import ThreatModel
from buttress.types import Data, Split


def check_data(data: Data, threat: ThreatModel) -> None:
    """Every example inside the box and finite, every label in range; splits of one shape.

    Raises:
        DataError: names split, position and value of the first example that is not.
    """
    shape = data.train.x.shape[1:]
    for name, split in data.splits().items():
        if len(split) == 0:
            raise DataError(f"data, split {name}: expected at least one example, got none")
        if split.x.shape[1:] != shape:
            raise DataError(
                f"data, split {name}: expected inputs of shape {tuple(shape)}, got {tuple(split.x.shape[1:])}"
            )
        _check_inputs(name, split.x, threat)
        bad = ((split.y < 0) | (split.y >= data.num_classes)).nonzero()
        if len(bad):
            at = int(bad[0])
            raise DataError(
                f"data, split {name}: label out of range at example {at}: expected 0 to {data.num_classes - 1}, got "
                f"{int(split.y[at])}; renumber the labels or set num_classes"
            )


def _check_inputs(name: str, x: Tensor, threat: ThreatModel) -> None:
    flat = x.flatten(1)
    bad = (~torch.isfinite(flat)).any(1).nonzero()
    if len(bad):
        raise DataError(f"data, split {name}: NaN or infinity in example {int(bad[0])}; remove or repair it")
    if threat.box is None:
        return
    low, high = threat.box
    bad = ((flat < low) | (flat > high)).any(1).nonzero()
    if len(bad):
        worst = flat[int(bad[0])]
        raise DataError(
            f"data, split {name}: example {int(bad[0])} lies outside of the box: expected values in "
            f"[{low:g}, {high:g}], got [{float(worst.min()):g}, {float(worst.max()):g}]; scale the inputs "
            "(normalisation belongs into the model), or set threat.box"
        )


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
