"""Verdicts of an evaluation by cell, which is one batch under one attack, and the shards that share its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOT_ATTACKED, WRONG, RIGHT = -1, 0, 1


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th batch of an evaluation, from batch number ``index`` on; ``str`` of it is ``"2/3"``.

    Args:
        index: number of the shard, from 0.
        count: number of shards.
    """

    index: int = 0
    count: int = 1

    def batches(self, total: int) -> range:
        """The numbers of its batches among ``total``."""
        return range(self.index, total, self.count)

    @property
    def whole(self) -> bool:
        """Whether it is the whole evaluation."""
        return self.count == 1

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


@dataclass
class Cells:
    """The cells of R rows (no attack, then each attack) by B batches of n examples, as far as they are done.

    A cell depends on the cells above it, and on no other batch.

    Args:
        size: number of examples in a batch; the last one may have fewer.
        table: ``[R,n]`` int8: ``RIGHT``, ``WRONG``, or ``NOT_ATTACKED``.
        done: ``[R,B]`` bools: whether a cell is done.
        seconds: ``[R,B]`` time that a cell took, in seconds.
        nonfinite: ``[B]`` int64 numbers of examples whose logits are not finite without an attack.
    """

    size: int
    table: NDArray[np.int8] = field(repr=False)
    done: NDArray[np.bool_] = field(repr=False)
    seconds: NDArray[np.float64] = field(repr=False)
    nonfinite: NDArray[np.int64] = field(repr=False)

    @staticmethod
    def empty(rows: int, examples: int, size: int) -> Cells:
        """Cells of which none is done."""
        batches = -(-examples // size)
        return Cells(
            size,
            np.full((rows, examples), NOT_ATTACKED, np.int8),
            np.zeros((rows, batches), np.bool_),
            np.zeros((rows, batches)),
            np.zeros(batches, np.int64),
        )

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.nonfinite)

    @property
    def missing(self) -> list[int]:
        """The numbers of the batches of which a cell is not done."""
        numbers: list[int] = np.flatnonzero(~self.done.all(0)).tolist()
        return numbers

    @property
    def progress(self) -> str:
        """``"of 12 batches 4 are done already, 2 in part and 6 not at all: 21 of 36 rounds are missing"``."""
        whole, begun = int(self.done.all(0).sum()), int(self.done.any(0).sum())
        return (
            f"of {self.batches} batches {whole} are done already, {begun - whole} in part and "
            f"{self.batches - begun} not at all: {int((~self.done).sum())} of {self.done.size} rounds are missing"
        )

    def columns(self, number: int) -> Tensor:
        """``[b]`` positions of the examples of batch ``number``."""
        return torch.arange(self.table.shape[1])[self._place(number)]

    def left(self, row: int, number: int) -> Tensor:
        """Those of batch ``number`` that are wrong in no row above ``row``: their positions, ``[b]``."""
        columns = self.columns(number)
        return columns[torch.from_numpy((self.table[:row, columns.numpy()] != WRONG).all(0))]

    def keep(self, row: int, number: int, columns: Tensor, right: Tensor, seconds: float, nonfinite: int = 0) -> None:
        """Enter a cell.

        Args:
            row: number of the row.
            number: number of the batch.
            columns: ``[b]`` positions of the examples that were attacked.
            right: ``[b]`` verdicts on them.
            seconds: time that it took.
            nonfinite: number of examples whose logits are not finite without an attack; for row 0.
        """
        self.table[row, columns.numpy()] = right.numpy()
        self.seconds[row, number], self.done[row, number] = seconds, True
        if row == 0:
            self.nonfinite[number] = nonfinite

    def add(self, other: Cells) -> None:
        """Take the cells that are done in ``other`` and not here; a cell that both have is the same, or as good."""
        for row, number in np.argwhere(other.done & ~self.done):
            place = self._place(number)
            self.table[row, place] = other.table[row, place]
            self.seconds[row, number], self.done[row, number] = other.seconds[row, number], True
            if row == 0:
                self.nonfinite[number] = other.nonfinite[number]

    def _place(self, number: int) -> slice:
        return slice(number * self.size, (number + 1) * self.size)
