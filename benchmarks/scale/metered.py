"""The ranks of a run whose collectives are timed and weighed; the engine itself has no clock in them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from buttress.engine.joining import join
from buttress.engine.world import World


class Collectives(NamedTuple):
    """Collectives of one rank in a step, each by purpose.

    Args:
        calls: number of collectives.
        bytes: size of the tensors that were summed, on this rank.
        seconds: time in collectives, waiting for the other ranks included.
    """

    calls: dict[str, int]
    bytes: dict[str, int]
    seconds: dict[str, float]


class MeteredWorld(World):
    """The ranks that torchrun's variables name, or one process alone."""

    def __init__(self) -> None:
        joined = join()
        super().__init__(joined._group, joined._faults)
        self.bytes: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._purpose = ""

    def taken(self) -> Collectives:
        """The collectives since the last call."""
        collectives = Collectives(dict(self.counts), dict(self.bytes), dict(self.seconds))
        for each in (self.counts, self.bytes, self.seconds):
            each.clear()
        return collectives

    def agree(self, *, stop: bool = False) -> bool:
        with self._metered("agreement"):
            return super().agree(stop=stop)

    def _collective(self, kind: str, purpose: str, form: str | None, call: Callable[[], object]) -> None:
        with self._metered(purpose):
            super()._collective(kind, purpose, form, call)

    @contextmanager
    def _metered(self, purpose: str) -> Iterator[None]:
        self._purpose, begin = purpose, perf_counter()
        yield
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + perf_counter() - begin

    def _reduce(self, values: Tensor, kind: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
        self.bytes[self._purpose] += values.numel() * values.element_size()
        super()._reduce(values, kind)

    def _reduce_in_buckets(self, flat: Tensor) -> None:
        self.bytes[self._purpose] += flat.numel() * flat.element_size()
        super()._reduce_in_buckets(flat)
