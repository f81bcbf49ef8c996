"""The processes that torchrun or srun has started for one comparison: who is there, and how the runs of each end.

They talk through leases in the folder of the comparison alone, one a rank: a process that is lost keeps nobody waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

import torch
from rich.console import Console

from buttress.comparing.jobs import Job
from buttress.comparing.status import status_of_run
from buttress.engine.joining import Launch, meeting_timeout
from buttress.errors import InterruptionError, RanksError
from buttress.launching.task_error import kept_error
from buttress.processes import StopRequest, variables_of_place
from buttress.storage.leases import holder_of, last_holder, leased

# Seconds between looks at the other processes.
_LOOK = 0.5
_VISIBLE = "CUDA_VISIBLE_DEVICES"

_Presence = Literal["absent", "here", "lost", "left"]


class Partners:
    """The processes of a launch, which share the runs of a comparison: rank r of N takes every N-th run.

    Args:
        launch: place of this process; one process alone waits for nobody.
        folder: folder of the comparison, which all of them see.
    """

    def __init__(self, launch: Launch, folder: Path) -> None:
        self._launch, self._folder = launch, folder
        self._before: dict[int, str] = {}
        self._deadline = 0.0

    @contextmanager
    def met(self, say: Callable[[str], None]) -> Iterator[None]:
        """Be there for the others within the block; ranks above 0 wait for rank 0 first.

        Raises:
            RanksError: rank 0 does not come.
        """
        if self._launch.size == 1:
            yield
            return
        seconds = meeting_timeout().total_seconds()
        self._deadline = monotonic() + seconds
        if self._launch.rank > 0:
            self._meet_first(seconds)
        else:  # before the others can know of rank 0, so that leases of an earlier launch are not theirs
            self._before = {rank: self._token(rank) for rank in range(1, self._launch.size)}
            if (other := holder_of(self._lease(0))) is not None:
                say(f"waiting for another command of several processes to end ({other})")
        with leased(self._lease(self._launch.rank), wait=True):
            yield

    def failures_of_others(self, jobs: Sequence[Job], say: Callable[[str], None]) -> dict[tuple[str, int], str]:
        """Wait until the others have ended; returns, by label and seed, why each of their failed runs did.

        A run that another command is working on is no failure.

        Args:
            jobs: the runs of all ranks, in their order.
            say: function that receives lines of progress.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop.
        """
        stop, is_announced = StopRequest(), False
        shares = {rank: jobs[rank :: self._launch.size] for rank in range(1, self._launch.size)}
        with stop.heard():
            while waiting := [rank for rank, share in shares.items() if self._is_awaited(rank, share)]:
                if stop.signal:
                    raise InterruptionError(
                        f"stopped by {stop.signal}; what was trained is saved; give the same command again to go on"
                    )
                if not is_announced:
                    look = f"buttress compare --status --runs {self._folder.parent} --name {self._folder.name}"
                    say(f"waiting for the runs of rank {', '.join(map(str, waiting))}; {look} shows them")
                    is_announced = True
                sleep(_LOOK)
        failures: dict[tuple[str, int], str] = {}
        for rank, share in shares.items():
            failures |= self._failures(rank, share)
        return failures

    def wait_for_first(self) -> None:
        """Wait until rank 0 has ended: torchrun stops all processes when one of them ends with an error."""
        first = last_holder(self._lease(0))
        while first is not None and (first.is_alive if first.is_here else holder_of(self._lease(0)) is not None):
            sleep(_LOOK)

    def _meet_first(self, seconds: float) -> None:
        while holder_of(self._lease(0)) is None:
            if monotonic() > self._deadline:
                raise RanksError(
                    f"rank 0 has not come to {self._folder} within {seconds:.0f} s: it has ended, or the folder of "
                    "runs is not one that all processes share; choose another --runs"
                )
            sleep(_LOOK)

    def _is_awaited(self, rank: int, share: Sequence[Job]) -> bool:
        presence = self._presence(rank)
        if presence == "absent":
            return monotonic() < self._deadline and not all(job.is_done() for job in share)
        if presence == "lost":  # its runs are processes of their own, and may go on
            return any(holder_of(job.lease) is not None for job in share)
        return presence == "here"

    def _failures(self, rank: int, share: Sequence[Job]) -> dict[tuple[str, int], str]:
        presence = self._presence(rank)
        failures = {}
        for job in share:
            if job.is_done() or holder_of(job.lease) is not None:
                continue
            if presence == "absent":
                reason = f"rank {rank}, whose run it is, has not come"
            else:
                error = kept_error(job.error_file) or status_of_run(job).error
                reason = error or f"rank {rank}, whose run it is, has ended before it"
            failures[job.label, job.seed] = reason
        return failures

    def _presence(self, rank: int) -> _Presence:
        if holder_of(self._lease(rank)) is not None:
            return "here"
        last = last_holder(self._lease(rank))
        if last is None or last.token == self._before.get(rank):
            return "absent"
        return "left" if last.released else "lost"

    def _token(self, rank: int) -> str:
        last = last_holder(self._lease(rank))
        return "" if last is None else last.token

    def _lease(self, rank: int) -> Path:
        return self._folder / "logs" / f"rank-{rank}.lease"

    def is_first_there(self) -> bool:
        """Whether rank 0 is at work in the folder."""
        return holder_of(self._lease(0)) is not None


def console_of(launch: Launch) -> Console | None:
    """The console of a process for bars: standard output for rank 0, and none for the others."""
    return Console(quiet=True, force_terminal=False) if launch.rank > 0 else None


@contextmanager
def process_alone(launch: Launch) -> Iterator[None]:
    """Make this process, and those that it starts, no ranks within the block, and give them the GPU of its rank.

    Args:
        launch: place of this process, read before.
    """
    if launch.size == 1:
        yield
        return
    before = dict(os.environ)
    for name in variables_of_place(before):
        del os.environ[name]
    if (gpu := _gpu_of(launch)) is not None:
        os.environ[_VISIBLE] = gpu
    try:
        yield
    finally:
        for name in (*variables_of_place(before), _VISIBLE):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _gpu_of(launch: Launch) -> str | None:
    """The GPU of a process as CUDA_VISIBLE_DEVICES has it; None without GPUs. More processes than GPUs share them."""
    count = torch.cuda.device_count()
    if count == 0:
        return None
    visible = os.environ.get(_VISIBLE)
    names = [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]
    return names[launch.local_rank % len(names)].strip()
