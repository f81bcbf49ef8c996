"""The batches of training: those of the training split, with a fixed number of extra examples in each.

The rule is that of the public codes of RST (Carmon et al., arXiv:1905.13736) and of Wang et al. (arXiv:2302.04638): a
batch has its extra examples, drawn uniformly with replacement, and is filled with real ones in the order of the epoch;
an epoch has as many batches as without extra examples, so that it passes over a part of the real ones only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from buttress.data.examples import NO_LABEL
from buttress.data.order import batches_per_epoch, epoch_order
from buttress.data.split import Split
from buttress.errors import ConfigError, DataError
from buttress.streams import seeded_generator
from buttress.types import Batch

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
        extra: extra examples, or None.
        share: share of the examples of a batch that are extra ones.

    Raises:
        ConfigError: the share of a batch is no example, or all of them.
    """

    real: Split
    batch_size: int
    drop_last: bool
    seed: int
    extra: Split | None = None
    share: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        count, most = self.extra_per_batch, self.batch_size - 1
        if self.extra is not None and not 1 <= count <= most:
            raise ConfigError(
                f"expected 1 to {most} extra examples in a batch of {self.batch_size}, got {count}, which is a share "
                f"of {self.share}; change it or data.batch_size"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch, which extra examples do not change.

        Raises:
            DataError: none, because no batch is complete, and incomplete ones are left out.
        """
        return batches_per_epoch(self.real, self.batch_size, self.drop_last)

    @property
    def extra_per_batch(self) -> int:
        return round(self.share * self.batch_size)

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

        With extra examples, ``index`` counts these after the real ones, ``aux["extra"]`` (bool ``[B]``) marks them, and
        ``aux["unlabelled"]`` those without a label, whose ``y`` is 0.

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

    def _drawn(self, epoch: int, start: int) -> Tensor:
        """Positions of the extra examples of an epoch from batch ``start`` on, drawn batch by batch."""
        assert self.extra is not None
        n, size = len(self.extra), (self.extra_per_batch,)
        streams = (
            seeded_generator("cpu", self.seed, "data", "extra", epoch, number)
            for number in range(start, self.batches_per_epoch)
        )
        return torch.cat([torch.randint(n, size, generator=stream) for stream in streams] or [torch.empty(0).long()])


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
