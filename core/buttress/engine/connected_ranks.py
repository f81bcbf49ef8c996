"""The connection of a process to the other ranks of its run: collectives on record, compared before each is made."""

from __future__ import annotations

import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist
from torch import Tensor

from buttress.engine.faults import Faults
from buttress.errors import ButtressError, RanksError


class ConnectedRanks:
    """The ranks of a run, connected by a process group; each expects the others to make the same collectives.

    Args:
        group: process group of ``torch.distributed``; None is one process alone.
        faults: board on which ranks tell one another why they end; needed with a group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, faults: Faults | None = None) -> None:
        self._group, self._faults = group, faults
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)
        self.place: Callable[[], str] = str
        """Names the plugin and the moment for messages."""
        self.counts: Counter[str] = Counter()
        """Number of collectives by purpose."""
        only_nccl = group is not None and dist.get_backend(group) == "nccl"  # a group that the caller has made
        self._device_of_numbers = torch.device("cuda" if only_nccl else "cpu")
        self._calls: list[str] = []  # collectives since the last agreement
        self._hash = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let an error of the block end the other ranks too, in the place of letting them wait."""
        if self.size == 1:
            yield
            return
        try:
            yield
        except BaseException as problem:
            self.fail(problem)
            raise

    def agree(self, *, stop: bool = False) -> bool:
        """End a step on all ranks together; collectives are compared from the last call on.

        Args:
            stop: whether this rank asks to stop.

        Returns:
            Whether any rank does.

        Raises:
            RanksError: they have not made the same collectives; the message names the first that differs, with plugin
                and ranks.
        """
        if self.size == 1:
            return stop
        self._record("agreement", f"{self.place()} agreement".strip())
        stopped = self._compared(stop)
        self._calls.clear()
        self._hash = 0
        return stopped

    def fail(self, problem: BaseException) -> None:
        """Tell the other ranks that this one ends, and why; it makes no more collectives."""
        if self._group is None or self._faults is None or isinstance(problem, RanksError):
            return
        reason, code = str(problem) or type(problem).__name__, getattr(problem, "exit_code", 1)
        speaks = self._faults.report(self.rank, reason, code)
        if isinstance(problem, ButtressError):
            problem.rank, problem.reported = self.rank, not speaks
        self._leave(problem)
        self._faults.leave_last(self.rank, self.size)

    def _leave(self, problem: BaseException | None) -> None:
        """Close the connections to the other ranks, so that they wait no longer.

        gloo closes a connection when nothing refers to its group. The calls in which ``problem`` was raised do.
        """
        if problem is not None:
            traceback.clear_frames(problem.__traceback__)
        group, self._group = self._group, None
        with suppress(Exception):
            dist.destroy_process_group(group)

    def _collective(self, kind: str, purpose: str, form: str | None, call: Callable[[], object]) -> None:
        """Make a collective, once all ranks are known to be at this very one: another one would abort the process.

        Args:
            kind: kind of collective.
            purpose: purpose of it.
            form: shape and dtype; None for a value of Python, of which ranks may be at different places of the run, as
                when they restore a checkpoint one after the other.
            call: makes it.
        """
        words = f"{kind} {purpose!r}"
        self._record(purpose, words if form is None else f"{self.place()} {words} {form}".strip())
        self._compared()
        try:
            call()
        except RuntimeError as problem:
            raise self._lost(problem) from problem

    def _record(self, purpose: str, words: str) -> None:
        if self._group is None:
            raise RanksError(f"rank {self.rank} has left the other ranks, and was asked for {words}")
        self.counts[purpose] += 1
        self._calls.append(words)
        self._hash = zlib.crc32(words.encode(), self._hash)

    def _compared(self, stop: bool = False) -> bool:
        """Compare the collectives of all ranks so far, by one reduction of three numbers on the CPU.

        Returns:
            Whether any rank asks to stop.
        """
        numbers = torch.tensor([self._hash, -self._hash, int(stop)], device=self._device_of_numbers)
        try:
            self._reduce(numbers, dist.ReduceOp.MAX)
        except RuntimeError as problem:
            raise self._lost(problem) from problem
        largest, least, stops = numbers.tolist()
        if largest != -least:
            raise self._lost(None)
        return bool(stops)

    def _lost(self, problem: BaseException | None) -> RanksError:
        """The error of ranks that no longer make the same collectives, or of which some have ended."""
        assert self._faults is not None
        self._leave(problem)
        return self._faults.explain(self.rank, self.size, self._calls, problem)

    def _reduce(self, values: Tensor, kind: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
        dist.all_reduce(values, kind, group=self._group)
