"""Run the jobs of a comparison through a launcher: one that crashes ends no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep

from rich.console import Console

from buttress.comparing.board import Board
from buttress.comparing.jobs import BUSY, Job
from buttress.console.tables import duration
from buttress.errors import InterruptionError
from buttress.launching.launcher import Launcher, Task, TaskEnd
from buttress.processes import StopRequest
from buttress.storage.leases import holder_of

# Seconds between looks at the tasks.
_LOOK = 0.05
_ELSEWHERE = "another process is at work on it"


class Pool:
    """Runs jobs through a launcher.

    Args:
        jobs: all jobs of the comparison; those that are done are only counted.
        launcher: launcher, opened.
        say: function that receives lines of progress.
        console: where bars are drawn, if it is a terminal; standard output by default.
    """

    def __init__(
        self, jobs: Sequence[Job], launcher: Launcher, say: Callable[[str], None], console: Console | None = None
    ) -> None:
        self._waiting = [job for job in jobs if not job.is_done()]
        self._total, self._new = len(jobs), len(self._waiting)
        self._launcher, self._say, self._board = launcher, say, Board(say, console)
        self._running: dict[Task, Job] = {}
        self._failed: dict[tuple[str, int], str] = {}
        self._folder = jobs[0].folder.path.parent if jobs else None
        self._started = monotonic()
        self._stop, self._kill = StopRequest(self._end_at_once), False

    def run(self) -> dict[tuple[str, int], str]:
        """Finish all; returns, by label and seed, why each failed one did.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves. A second Ctrl-C
                ends them at once.
        """
        if self._waiting:
            self._say(
                f"{self._total} runs, {self._total - self._new} done before; {self._launcher.terms(self._new)}; "
                f"logs: {self._waiting[0].log.parent}"
            )
        with self._stop.heard(), self._board:
            try:
                while (self._waiting and not self._stop.signal) or self._running:
                    if self._waiting and not self._stop.signal:
                        self._submit()
                    sleep(_LOOK)
                    self._board.look()
                    if self._stop.signal:  # the runs save themselves; after a second Ctrl-C they are ended
                        self._launcher.stop(at_once=self._kill)
                    self._collect()
            finally:
                self._launcher.close()  # where something went wrong here, no run goes on without us
        if self._stop.signal:
            raise InterruptionError(f"stopped by {self._stop.signal}; {self._what_now()}")
        return self._failed

    def _end_at_once(self) -> None:
        self._kill = True

    def _what_now(self) -> str:
        """The end of the message after a stop: what goes on, and how to go on."""
        left = self._launcher.left_behind()
        if not left or self._folder is None:
            return "what was trained is saved; give the same command again to go on"
        look = f"buttress compare --status --runs {self._folder.parent} --name {self._folder.name}"
        return f"{left}; {look} shows them"

    def _submit(self) -> None:
        """Hand over as many jobs as the launcher has room for."""
        tasks: dict[Task, Job] = {}
        while self._waiting and len(tasks) < self._launcher.room():
            job = self._waiting.pop(0)
            task, holder = job.task(), holder_of(job.lease)
            if job.is_done():  # asked here too, since a process takes seconds to find out
                self._report(job, "done by another process", 0.0, len(tasks))
            elif holder and not self._launcher.takes_up(task):
                self._report(job, f"{_ELSEWHERE} ({holder})", 0.0, len(tasks))
            else:
                tasks[task] = job
        if tasks:
            self._launcher.submit(list(tasks))
        self._running |= tasks
        for task, job in tasks.items():
            if (answers := self._launcher.answers(task)) is not None:
                self._board.begin(task.name, answers)
            else:
                self._board.watch(task.name, job.lease)

    def _collect(self) -> None:
        for end in self._launcher.ended():
            job = self._running.pop(end.task)
            self._board.end(end.task.name)
            if not end.stopped:
                self._report(job, self._outcome(job, end), end.seconds)

    def _outcome(self, job: Job, end: TaskEnd) -> str:
        if end.code == BUSY:
            return _ELSEWHERE
        if end.code == 0:
            return "done"
        self._failed[job.label, job.seed] = end.error
        return f"failed, see {job.log}"

    def _report(self, job: Job, outcome: str, seconds: float, chosen: int = 0) -> None:
        left = len(self._waiting) + len(self._running) + chosen
        forecast = (monotonic() - self._started) / (self._new - left) * left
        self._say(
            f"[{self._total - left}/{self._total}] {job}: {outcome} ({duration(seconds)})"
            + (f"; about {duration(forecast)} left" if left else "")
        )
