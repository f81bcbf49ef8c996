"""Positions of examples: their order in an epoch, a fixed order, and the subset of a command."""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

from buttress.data.split import Split
from buttress.errors import ConfigError, DataError
from buttress.streams import seeded_generator

T = TypeVar("T")


def subset(n: int, examples: int | None) -> Tensor:
    """Positions for ``--examples`` in a split of ``n``, the same for every command that takes a part of one.

    Returns:
        ``[min(n, examples)]`` positions in order, on the CPU; all for None. They depend on the two numbers alone: two
        commands take the same examples. A smaller subset lies within a larger one.

    Raises:
        ConfigError: fewer than one.
    """
    if examples is None:
        return torch.arange(n)
    if examples < 1:
        raise ConfigError("expected a number >= 1", key=f"--examples {examples}")
    order = torch.randperm(n, generator=seeded_generator("cpu", "evaluation", "subset"))
    return order[:examples].sort().values


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """``[n]`` positions of the training set in the order of one epoch: fixed by (seed, epoch), new each epoch."""
    return torch.randperm(n, generator=seeded_generator("cpu", seed, "data", "order", epoch))


def fixed_order(n: int, seed: int) -> Tensor:
    """``[n]`` positions of the training set, shuffled once for the whole run, to measure statistics on."""
    return torch.randperm(n, generator=seeded_generator("cpu", seed, "data", "fixed order"))


def replayed(batches: Iterable[T], replays: int, done: int = 0) -> Iterator[T]:
    """Each of ``batches`` ``replays`` times in a row; the first one less by those that are ``done``."""
    for batch in batches:
        yield from repeat(batch, replays - done)
        done = 0


def batches_per_epoch(split: Split, batch_size: int, drop_last: bool) -> int:
    """Number of batches in an epoch.

    Raises:
        DataError: none, because the batch is larger than the split and incomplete batches are dropped.
    """
    batches = len(split) // batch_size if drop_last else -(-len(split) // batch_size)
    if batches == 0:
        raise DataError(
            f"data.batch_size: {batch_size} is more than the {len(split)} training examples, with drop_last"
        )
    return batches
