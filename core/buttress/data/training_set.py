"""The batches of training: those of the training split, with a fixed number of extra examples in each.

The rule is that of the public codes of RST (Carmon et al., arXiv:1905.13736) and of Wang et al. (arXiv:2302.04638): a
batch has its extra examples, drawn uniformly with replacement, and is filled with real ones in the order of the epoch;
an epoch has as many batches as without extra examples, so that it passes over a part of the real ones only. Sources of
extra examples may be several, and each may be drawn from without replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from buttress.data.examples import NO_LABEL
from buttress.data.extra_source import ExtraSource
from buttress.data.joined import JoinedSplit
from buttress.data.order import batches_per_epoch, epoch_order
from buttress.data.split import Split
from buttress.errors import ConfigError, DataError
from buttress.types import Batch, Rows

EXTRA, UNLABELLED = "extra", "unlabelled"
"""Names in ``Batch.aux``: which examples are extra ones, and which have no label."""


@dataclass(frozen=True)
class TrainingSet:
    """The examples of training, in the batches of any epoch.

    Args:
        real: training split.
        batch_size: number of examples in a batch.
        drop_last: whether an incomplete last batch is left out.
        seed: seed of the run.
        extras: sources of extra examples, in the order in which a batch has them.

    Raises:
        ConfigError: a share of a batch is no example, or all shares are the whole batch.
        DataError: inputs of two sources differ in shape or dtype.
    """

    real: Split
    batch_size: int
    drop_last: bool
    seed: int
    extras: Sequence[ExtraSource] = ()

    def __post_init__(self) -> None:
        most = self.batch_size - 1
        counts = [(each.per_batch(self.batch_size), str(each.share)) for each in self.extras]
        too_small = [each for each in counts if each[0] < 1]
        too_many = [(self.extra_per_batch, " + ".join(share for _, share in counts))]
        for count, share in too_small or (too_many if self.extra_per_batch > most else []):
            raise ConfigError(
                f"expected 1 to {most} extra examples in a batch of {self.batch_size}, got {count}, which is a share "
                f"of {share}; change it or data.batch_size"
            )

    @cached_property
    def extra(self) -> Split | None:
        """The extra examples of all sources."""
        splits = [each.split for each in self.extras]
        return JoinedSplit(splits) if len(splits) > 1 else next(iter(splits), None)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch, which extra examples do not change.

        Raises:
            DataError: none, because no batch is complete, and incomplete ones are left out.
        """
        return batches_per_epoch(self.real, self.batch_size, self.drop_last)

    @property
    def extra_per_batch(self) -> int:
        """Number of extra examples in a batch, of all sources."""
        return sum(each.per_batch(self.batch_size) for each in self.extras)

    @property
    def examples(self) -> int:
        """Number of real and extra examples."""
        return len(self.real) + (0 if self.extra is None else len(self.extra))

    def class_counts(self, num_classes: int) -> list[int] | None:
        """Number of labelled examples of each class, real and extra; None where labels are not in memory."""
        counts = [split.class_counts(num_classes) for split in (self.real, self.extra) if split is not None]
        known = [count for count in counts if count is not None]
        return [sum(each) for each in zip(*known, strict=True)] if len(known) == len(counts) else None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start`` on.

        With extra examples, ``index`` counts these after the real ones, source by source; ``aux["extra"]`` (bool
        ``[B]``) marks them, and ``aux["unlabelled"]`` those without a label, whose ``y`` is 0.

        Raises:
            DataError: an example cannot be read, or extra examples are of another kind than real ones; at its batch.
        """
        count, size = self.batches_per_epoch, self.batch_size - self.extra_per_batch
        real = self.real.batches(epoch_order(len(self.real), self.seed, epoch)[: count * size], size, start)
        if self.extra is None:
            yield from real
            return
        drawn = self.extra.batches(self._drawn(epoch, start), self.extra_per_batch)
        for one, other in zip(real, drawn, strict=True):
            yield mixed(one, other, len(self.real))

    def own_batches(
        self, epoch: int, start: int = 0, rows_of: Callable[[int], Rows] = Rows
    ) -> Iterator[tuple[Batch, Rows | None]]:
        """The batches of an epoch as one of several processes gets them, from batch number ``start`` on.

        Where a split reads rows, a batch holds those of this process alone, which come with it; elsewhere it is the
        whole batch, with None. Order and draws are those of ``batches``, for any number of processes.

        Args:
            epoch: the epoch.
            start: number of the first batch.
            rows_of: the rows that this process has of a batch of so many examples; default: all, in one process.

        Raises:
            DataError: as ``batches``.
        """
        splits = [split for split in (self.real, self.extra) if split is not None]
        if rows_of(1).ranks == 1 or not any(split.reads_rows for split in splits):
            yield from ((batch, None) for batch in self.batches(epoch, start))
            return
        positions = self._positions(epoch, start)
        rows = [rows_of(len(real) + len(extra)) for real, extra in positions]
        own = [own_positions(*each) for each in zip(rows, positions, strict=True)]
        reals = _batches_at(self.real, [real for real, _ in own])
        extras = _batches_at(self.extra, [extra for _, extra in own])
        for each, real, extra in zip(rows, reals, extras, strict=True):
            if self.extra is None:
                assert real is not None
                yield real, each
            else:
                yield mixed(_rows_or_none(real, extra), _rows_or_none(extra, real), len(self.real)), each

    def _positions(self, epoch: int, start: int) -> list[tuple[Tensor, Tensor]]:
        """Positions of the real and of the extra examples of every batch of an epoch from batch ``start`` on."""
        count, size = self.batches_per_epoch, self.batch_size - self.extra_per_batch
        real = torch.split(epoch_order(len(self.real), self.seed, epoch)[: count * size], size)[start:]
        if self.extra is None:
            return [(part, part[:0]) for part in real]
        return list(zip(real, torch.split(self._drawn(epoch, start), self.extra_per_batch), strict=True))

    def _drawn(self, epoch: int, start: int) -> Tensor:
        """Positions in ``extra`` of the extra examples of an epoch from batch ``start`` on, batch by batch."""
        batches = range(start, self.batches_per_epoch)
        firsts = accumulate((len(each.split) for each in self.extras), initial=0)
        drawn = [
            first + source.drawn(source.per_batch(self.batch_size), self.seed, number, epoch, batches)
            for number, (first, source) in enumerate(zip(firsts, self.extras, strict=False))
        ]
        return torch.cat(drawn, 1).flatten()


def mixed(real: Batch, extra: Batch, n: int) -> Batch:
    """One batch of a real batch and an extra one, in this order; ``n`` is the number of all real examples.

    Raises:
        DataError: inputs of the two differ in shape or dtype, or they differ in their names of ``aux``.
    """
    if real.x.dtype != extra.x.dtype or real.x.shape[1:] != extra.x.shape[1:]:
        raise DataError(
            f"data, split extra: expected inputs of shape {tuple(real.x.shape[1:])} and {real.x.dtype}, as in the "
            f"train split, got {tuple(extra.x.shape[1:])} and {extra.x.dtype}"
        )
    if real.aux.keys() != extra.aux.keys():
        raise DataError(
            f"data, split extra: expected batches with aux {sorted(real.aux)}, as in the train split, got "
            f"{sorted(extra.aux)}"
        )
    y = torch.cat([real.y, extra.y])
    marks = torch.arange(len(y), device=y.device) >= len(real.y)
    unlabelled = y == NO_LABEL
    aux = {name: torch.cat([value, extra.aux[name]]) for name, value in real.aux.items()}
    return Batch(
        torch.cat([real.x, extra.x]),
        y.masked_fill(unlabelled, 0),
        None if real.index is None or extra.index is None else torch.cat([real.index, n + extra.index]),
        {**aux, EXTRA: marks, UNLABELLED: unlabelled},
    )


def own_positions(rows: Rows, positions: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Those of the positions of a batch's real and extra examples, in this order, that are of ``rows``."""
    real, extra = positions
    places = rows.of(torch.arange(len(real) + len(extra)))
    of_real = places < len(real)
    return real[places[of_real]], extra[places[~of_real] - len(real)]


def _batches_at(split: Split | None, parts: Sequence[Tensor]) -> Iterator[Batch | None]:
    """The batches of the parts; None for those without an example."""
    batches = iter(()) if split is None else split.batches_at([part for part in parts if len(part)])
    for part in parts:
        yield next(batches) if len(part) else None


def _rows_or_none(batch: Batch | None, other: Batch | None) -> Batch:
    """``batch``, or no row of the other where it is None."""
    if batch is not None:
        return batch
    assert other is not None
    index = None if other.index is None else other.index[:0]
    return Batch(other.x[:0], other.y[:0], index, {name: value[:0] for name, value in other.aux.items()})
