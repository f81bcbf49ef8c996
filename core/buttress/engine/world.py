"""The processes that train one model together: one rank each, with sums over them and the rows that each has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from buttress.engine.connected_ranks import ConnectedRanks
from buttress.engine.faults import Faults
from buttress.types import Rows

T = TypeVar("T")
Compute = Callable[[Collection[str]], Mapping[str, Tensor]]

# Bytes of one reduction of gradients.
BUCKET = 64 * 2**20

_NO_LIMIT = float("inf")


class World(ConnectedRanks):
    """The ranks of a run. ``World()`` is one process alone, for which every method gives back what it is given.

    Every method that takes or gives tensors, ``from_main``, ``gathered``, ``wait`` and ``agree`` are collectives: all
    ranks call them, in the same order.

    Args:
        group: process group of ``torch.distributed`` over CPU and device; None is one process alone.
        faults: board on which ranks tell one another why they end; needed with a group.
    """

    @staticmethod
    def present() -> World:
        """The processes of torch's default process group, where it has been made; else this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return World()
        store = dist.distributed_c10d._get_default_store()
        return World(dist.group.WORLD, Faults(store, _NO_LIMIT))

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def rows(self, total: int, blocks: int = 1) -> Rows:
        """The rows that this rank has of a batch of ``total`` examples."""
        return Rows(total, self.rank, self.size, blocks)

    # Tensors

    def sum(self, values: Tensor, purpose: str = "sum") -> Tensor:
        """The sum of ``values`` over all ranks; with a graph, where ``values`` have one."""
        if self.size == 1:
            return values
        if not values.requires_grad:
            return self._summed(values, purpose)
        total: Tensor = _Sum.apply(values, self, purpose)  # type: ignore[no-untyped-call]
        return total

    def _summed(self, values: Tensor, purpose: str) -> Tensor:
        total = values.detach().long() if values.dtype == torch.bool else values.detach().clone()
        total = total.contiguous()
        self._collective("sum", purpose, f"{tuple(total.shape)} {total.dtype}", lambda: self._reduce(total))
        return total

    def sum_(self, tensors: Sequence[Tensor], purpose: str) -> None:
        """Give every one of ``tensors`` (floating point) its sum over all ranks, in place, in buckets of 64 MiB."""
        if self.size == 1 or not tensors:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            some = [tensor for tensor in tensors if tensor.dtype == dtype]
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            flat = torch.cat([tensor.detach().reshape(-1).to(wide) for tensor in some])
            form = f"{len(some)} tensors, {flat.numel()} {dtype}"
            self._collective("sum", purpose, form, lambda flat=flat: self._reduce_in_buckets(flat))  # type: ignore[misc]
            sums = torch.split(flat, [tensor.numel() for tensor in some])
            with torch.no_grad():
                for tensor, total in zip(some, sums, strict=True):
                    tensor.copy_(total.view(tensor.shape))

    def _reduce_in_buckets(self, flat: Tensor) -> None:
        buckets = torch.split(flat, BUCKET // flat.element_size())
        works = [dist.all_reduce(bucket, group=self._group, async_op=True) for bucket in buckets]
        for work in works:
            work.wait()

    def mean_(self, tensors: Sequence[Tensor], purpose: str, share: float | None = None) -> None:
        """Give every one of ``tensors`` its mean over the ranks, in place.

        Args:
            tensors: floating-point tensors.
            purpose: purpose of the mean.
            share: weight of this rank; the weights of all ranks add up to 1. None: all weigh the same.
        """
        if self.size == 1 or not tensors:
            return
        with torch.no_grad():
            torch._foreach_mul_(list(tensors), 1 / self.size if share is None else share)
        self.sum_(tensors, purpose)

    def all(self, good: Tensor, purpose: str = "all") -> Tensor:
        """Whether the 0-dim bool ``good`` is true on every rank, on the device."""
        if self.size == 1:
            return good
        least = good.to(torch.int32)
        self._collective("all", purpose, "", lambda: self._reduce(least, dist.ReduceOp.MIN))
        return least > 0

    def from_main_(self, tensors: Sequence[Tensor], purpose: str) -> None:
        """Give ``tensors`` the values that they have on the main rank."""
        if self.size == 1:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous()
            form = f"{tuple(values.shape)} {values.dtype}"
            call = lambda values=values: dist.broadcast(values, 0, group=self._group)  # noqa: E731
            self._collective("from main", purpose, form, call)
            with torch.no_grad():
                tensor.copy_(values)

    def rows_of_all(self, values: Tensor, rows: Rows, purpose: str) -> Tensor:
        """``[blocks * total,*]``: the rows of all ranks in order, of which ``values [count,*]`` are this rank's."""
        if rows.whole:
            return values
        places = torch.arange(rows.blocks * rows.total, device=values.device)
        whole = values.new_zeros(len(places), *values.shape[1:])
        whole.index_copy_(0, rows.of(places), values.detach())
        return self._summed(whole, purpose)

    def shared_out(self, like: Mapping[str, Tensor], compute: Compute, purpose: str) -> dict[str, Tensor]:
        """Tensors by name, of which each rank computes some and all get all.

        Args:
            like: tensors of the shapes, dtypes and devices of the results, by name.
            compute: computes the tensors of some of these names.
            purpose: purpose of the collectives.
        """
        owners = self._owners({name: tensor.numel() for name, tensor in like.items()})
        own = compute([name for name in like if owners[name] == self.rank])
        results = {name: own[name] if name in own else torch.empty_like(tensor) for name, tensor in like.items()}
        for name, result in results.items() if self.size > 1 else ():
            form = f"{name} {tuple(result.shape)}"
            call = lambda result=result, name=name: dist.broadcast(result, owners[name], group=self._group)  # noqa: E731
            self._collective("from one", purpose, form, call)
        return results

    def _owners(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Name to the rank that computes it, so that all have about as many elements."""
        loads, owners = [0] * self.size, {}
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            owners[name] = loads.index(min(loads))
            loads[owners[name]] += sizes[name]
        return owners

    # Values of Python

    def from_main(self, value: T, purpose: str = "value") -> T:
        """The value of the main rank."""
        if self.size == 1:
            return value
        held: list[Any] = [value]
        call = lambda: dist.broadcast_object_list(held, 0, group=self._group, device=_CPU)  # noqa: E731
        self._collective("from main", purpose, None, call)
        return held[0]  # type: ignore[no-any-return]

    def gathered(self, value: T, purpose: str = "value") -> list[T]:
        """The values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        held: list[Any] = [None] * self.size
        self._collective("gathered", purpose, None, lambda: dist.all_gather_object(held, value, group=self._group))
        return held

    def in_turn(self, work: Callable[[], T], purpose: str) -> T:
        """``work()`` on the main rank first, then on the others: for what the first call leaves for the later ones."""
        if not self.is_main:
            self.wait(purpose)
        answer = work()
        if self.is_main:
            self.wait(purpose)
        return answer

    def wait(self, purpose: str) -> None:
        """Wait until every rank is here: for what the main rank does alone, so that the others find it done."""
        self.gathered(None, purpose)


_CPU = torch.device("cpu")


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of the gradients of all ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World, purpose: str) -> Tensor:
        ctx.world, ctx.purpose = world, purpose
        return world._summed(values, purpose)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.sum(grads[0], ctx.purpose), None, None
