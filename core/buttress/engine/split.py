"""Take the rows of this rank from the whole batch of a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from buttress.engine.world import World
from buttress.errors import DataError
from buttress.streams import seed_of
from buttress.types import Batch, Rows


def split_batch(world: World, given: Batch, transformed: Batch, rows: Rows | None) -> tuple[Batch, Rows | None]:
    """The part of a transformed batch that this rank trains on, and its rows; None where it is the whole batch.

    Args:
        world: ranks of the run.
        given: batch before it was transformed.
        transformed: batch after it, some whole number of times as long.
        rows: rows of this rank, where ``given`` holds no others; None where it is the whole batch.

    Raises:
        DataError: the lengths do not fit one another.
    """
    if world.size == 1:
        return transformed, None
    before, after = len(given.x), len(transformed.x)
    if after % before:
        raise DataError(
            f"engine.step: on {world.size} processes a batch of {before} examples may be made a whole number of times "
            f"as long by transform_batch, so that the rows of an example stay together; got {after} rows"
        )
    if rows is not None:
        return transformed, replace(rows, blocks=rows.blocks * (after // before))
    rows = world.rows(before, after // before)
    return transformed if rows.whole else part_of(transformed, rows), rows


def part_of(batch: Batch, rows: Rows) -> Batch:
    """The rows of a whole batch, inputs in the memory format that they have."""
    x: Tensor = rows.of(batch.x)
    if batch.x.dim() == 4 and batch.x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    index = None if batch.index is None else rows.of(batch.index)
    return Batch(x, rows.of(batch.y), index, {name: rows.of(value) for name, value in batch.aux.items()})


@contextmanager
def drawing_alike(rows: Rows | None, device: torch.device, *key: object) -> Iterator[None]:
    """Let torch's global generators draw the same on all ranks, where all of them have the whole batch of a step.

    Dropout in a model draws from them. They are put back afterwards, so that the masks of later steps are each rank's.

    Args:
        rows: rows of this rank; None in one process.
        device: device of the model.
        key: seed and place of the step in the run.
    """
    if rows is None or not rows.whole:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of((*key, "whole batch")))
        yield
