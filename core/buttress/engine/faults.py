"""The board on which the ranks of a run tell one another why they end, so that one of them can tell the user."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from time import monotonic, sleep
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore, Store

from buttress.errors import RanksError

# Seconds in which other ranks are to say where they are, in which they are to end, and between two looks.
_PATIENCE, _END, _LOOK = 10.0, 20.0, 0.05

_CURE = "continue with buttress resume, which takes any number of processes"


class Faults:
    """The reasons why ranks end, and the last collectives of each.

    Args:
        store: key-value store that all ranks of a run reach.
        timeout: number of seconds after which a collective fails; for messages.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        self._store, self._timeout = PrefixStore("buttress", store), timeout

    def report(self, rank: int, reason: str, exit_code: int) -> bool:
        """Say that ``rank`` ends by an error of its own, and with which exit code.

        Returns:
            Whether it is the first to say so, and is the one to tell the user.
        """
        try:
            first = bool(self._store.add("speakers", 1) == 1)
            if first:
                self._store.set("fault", json.dumps([rank, reason, exit_code]))
        except RuntimeError:  # the store went with the rank that kept it
            return True
        return first

    def explain(self, rank: int, size: int, calls: Sequence[str], problem: BaseException | None) -> RanksError:
        """The reason why ``rank`` cannot go on: another one has ended, or does something else.

        Args:
            rank: number of this rank.
            size: number of ranks.
            calls: collectives of this rank since the last agreement, at the last of which it is.
            problem: error of the last one; None where it is another one than that of other ranks.
        """
        try:
            others = self._calls_of_all(rank, size, calls)
            fault = self._fault()
            there = size if fault is not None else len(others)
            if fault is not None:
                error = RanksError(f"rank {fault[0]}: {fault[1]}")
                error.exit_code, error.reported = fault[2], True
            else:
                error = RanksError(f"{self._reason(size, others, problem)}; {_CURE}")
                error.reported = self._store.add("speakers", 1) != 1
            self.leave_last(rank, there)
        except RuntimeError:
            return RanksError(
                f"rank 0 of {size}: ended, or its machine has, or cannot be reached any more; rank {rank} was at: "
                f"{calls[-1]}; {_CURE}"
            )
        return error

    def leave_last(self, rank: int, there: int) -> None:
        """Let the rank whose process may keep the store wait until the ``there`` ranks need it no longer.

        A rank notices that another one has left at its next collective, which may be a step away.
        """
        with suppress(RuntimeError):  # the store went with the rank that kept it
            left, end = self._store.add("left", 1), monotonic() + _END
            while rank == 0 and left < there and monotonic() < end:
                sleep(_LOOK)
                left = self._store.add("left", 0)

    def _reason(self, size: int, calls: Mapping[int, Sequence[str]], problem: BaseException | None) -> str:
        here = next(iter(calls.values()))[-1]
        if silent := [rank for rank in range(size) if rank not in calls]:
            names = f"rank {silent[0]}" if len(silent) == 1 else f"ranks {', '.join(map(str, silent))}"
            return f"{names} of {size}: ended without a word, or does not answer any more; the others were at: {here}"
        for number in range(max(map(len, calls.values()))):
            at = {rank: own[number] if number < len(own) else "nothing more" for rank, own in calls.items()}
            if len(set(at.values())) > 1:
                by_rank = "; ".join(f"rank {rank}: {call}" for rank, call in sorted(at.items()))
                return f"the ranks no longer make the same collectives, which all have to make in one order: {by_rank}"
        limit = f" within {self._timeout:g} s" if isfinite(self._timeout) else ""
        return f"the ranks lost one another{limit} at: {here} ({problem})"

    def _calls_of_all(self, rank: int, size: int, calls: Sequence[str]) -> dict[int, list[str]]:
        """The collectives of every rank that still answers, this one first."""
        known = {rank: list(calls)}
        end = monotonic() + _PATIENCE
        self._store.set(f"calls {rank}", json.dumps(known[rank]))
        while len(known) < size and self._fault() is None and monotonic() < end:
            for other in range(size):
                if other not in known and (value := self._value(f"calls {other}")) is not None:
                    known[other] = value
            sleep(_LOOK)
        return known

    def _fault(self) -> tuple[int, str, int] | None:
        """Rank, reason and exit code of the first that ended by an error of its own."""
        value = self._value("fault")
        return None if value is None else (int(value[0]), str(value[1]), int(value[2]))

    def _value(self, key: str) -> Any:
        return json.loads(self._store.get(key)) if self._store.check([key]) else None
