"""A source of extra examples: how many of them are in a batch, and which ones are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from buttress.data.permutation import permuted
from buttress.data.split import Split
from buttress.streams import seeded_generator

_MANY = 2**24
"""Number of examples above which draws take 62 random bits. torch takes 32, of which the remainder by 50 million makes
some examples 1.2 % more likely than others."""


@dataclass(frozen=True)
class ExtraSource:
    """Extra examples, a share of every batch.

    Args:
        split: the examples.
        share: share of the examples of a batch that are drawn from them.
        replacement: whether draws are independent. Else every example comes once before any comes again, across epochs.
    """

    split: Split
    share: Fraction
    replacement: bool = True

    def per_batch(self, batch_size: int) -> int:
        """Number of examples in a batch of ``batch_size``."""
        return round(self.share * batch_size)

    def drawn(self, count: int, seed: int, number: int, epoch: int, batches: range) -> Tensor:
        """Positions of the examples that are drawn into some batches of an epoch.

        They depend on the arguments alone, so that a run goes on at any batch with the same ones.

        Args:
            count: number of examples in a batch.
            seed: seed of the run.
            number: number of the source, from 0.
            epoch: the epoch.
            batches: numbers of the batches; ``batches.stop`` is the number of batches in an epoch.

        Returns:
            ``[len(batches), count]`` int64, on the CPU.
        """
        if self.replacement:
            key = (seed, "data", "extra", epoch)
            own = (number,) if number else ()  # the stream of the first is as old as streams of extra examples
            streams = (seeded_generator("cpu", *key, batch, *own) for batch in batches)
            rows = [uniform(len(self.split), count, stream) for stream in streams]
            return torch.stack(rows) if rows else torch.empty((0, count), dtype=torch.int64)
        first = (epoch * batches.stop + batches.start) * count
        places = torch.arange(first, first + len(batches) * count)
        return torch.cat([*self._passes(places, seed, number), places[:0]]).view(len(batches), count)

    def _passes(self, places: Tensor, seed: int, number: int) -> Iterator[Tensor]:
        """Positions at consecutive places of the run's whole sequence: one permutation after another."""
        n = len(self.split)
        passes = places // n
        for each in torch.unique(passes).tolist():
            within = (places[passes == each] % n).numpy()
            yield torch.from_numpy(permuted(within, n, seed, "data", "extra", "pass", each, number))


def uniform(n: int, count: int, stream: torch.Generator) -> Tensor:
    """``[count]`` positions in ``n`` examples, drawn uniformly with replacement."""
    if n <= _MANY:
        return torch.randint(n, (count,), generator=stream)
    return torch.randint(2**62, (count,), generator=stream) % n
