"""Run the jobs of a comparison in processes, several at a time: one that crashes ends no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import monotonic, sleep

from buttress.comparing.board import Board
from buttress.comparing.job_error import kept_error
from buttress.comparing.jobs import BUSY, Job, work
from buttress.console.tables import duration
from buttress.errors import InterruptionError
from buttress.processes import StopRequest, describe_end, python_environment, start_apart
from buttress.storage.files import storage_errors
from buttress.storage.locks import locked

# Seconds between looks at the processes.
_LOOK = 0.05
_ELSEWHERE = "another process is at work on it"


@dataclass
class _Running:
    """A job at work: since when, the size of its log before, and the number of signals sent to stop it."""

    job: Job
    started: float
    log_size: int
    signals: int = 0


class Pool:
    """Runs jobs in processes.

    Args:
        jobs: all jobs of the comparison; those that are done are only counted.
        slots: number of processes at once; each gets its share of the processors as threads, unless OMP_NUM_THREADS is
            set.
        say: function that receives lines of progress.
    """

    def __init__(self, jobs: Sequence[Job], slots: int, say: Callable[[str], None]) -> None:
        self._waiting = [job for job in jobs if not job.is_done()]
        self._total, self._new = len(jobs), len(self._waiting)
        self._slots, self._say, self._board = slots, say, Board(say)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // slots)))
        self._environment = {**python_environment(), "OMP_NUM_THREADS": threads}
        self._running: dict[subprocess.Popen[bytes], _Running] = {}
        self._failed: dict[tuple[str, int], str] = {}
        self._started = monotonic()
        self._stop, self._kill = StopRequest(self._end_at_once), False

    def run(self) -> dict[tuple[str, int], str]:
        """Finish all; returns, by label and seed, why each failed one did.

        Raises:
            InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves. A second Ctrl-C
                ends them at once.
        """
        if self._waiting:
            threads = self._environment["OMP_NUM_THREADS"]
            self._say(
                f"{self._total} runs, {self._total - self._new} done before; {min(self._slots, self._new)} at once, "
                f"OMP_NUM_THREADS={threads} each; logs: {self._waiting[0].log.parent}"
            )
        with self._stop.heard(), self._board:
            try:
                while (self._waiting and not self._stop.signal) or self._running:
                    while self._waiting and len(self._running) < self._slots and not self._stop.signal:
                        self._start(self._waiting.pop(0))
                    sleep(_LOOK)
                    self._board.look()
                    self._pass_on()
                    self._collect()
            finally:
                for process in self._running:  # something went wrong here: no run goes on without us
                    process.terminate()
                for process in self._running:
                    process.wait()
        if self._stop.signal:
            raise InterruptionError(
                f"stopped by {self._stop.signal}; what was trained is saved; give the same command again to go on"
            )
        return self._failed

    def _end_at_once(self) -> None:
        self._kill = True

    def _pass_on(self) -> None:
        """Tell the processes to stop: they save themselves; after a second Ctrl-C they are ended."""
        requests = (self._stop.signal is not None) + self._kill
        for process, running in self._running.items():
            if running.signals < requests:
                (process.kill if running.signals else process.terminate)()
                running.signals += 1

    def _start(self, job: Job) -> None:
        with locked(job.lock, wait=False) as free:
            pass
        if not free or job.is_done():  # asked here too, since a process takes seconds to find out
            self._report(job, _ELSEWHERE if not free else "done by another process", 0.0)
            return
        with storage_errors(job.log), job.log.open("ab") as log:
            before = log.tell()
            process = start_apart(
                work,
                [asdict(job)],
                errors=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C on the terminal is ours; we pass it on once
            )
        assert process.stdout is not None
        self._board.begin(str(job), process.stdout)
        self._running[process] = _Running(job, monotonic(), before)

    def _collect(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            running = self._running.pop(process)
            job = running.job
            self._board.end(str(job))
            if running.signals:
                continue
            outcome = "done"
            if process.returncode == BUSY:
                outcome = _ELSEWHERE
            elif process.returncode != 0:
                output = job.log.read_bytes()[running.log_size :].decode(errors="replace")
                self._failed[job.label, job.seed] = _reason(process.returncode, kept_error(job.error_file), output)
                outcome = f"failed, see {job.log}"
            self._report(job, outcome, monotonic() - running.started)

    def _report(self, job: Job, outcome: str, seconds: float) -> None:
        left = len(self._waiting) + len(self._running)
        forecast = (monotonic() - self._started) / (self._new - left) * left
        self._say(
            f"[{self._total - left}/{self._total}] {job}: {outcome} ({duration(seconds)})"
            + (f"; about {duration(forecast)} left" if left else "")
        )


def _reason(code: int, error: str | None, output: str) -> str:
    """The reason of a failure: the signal that ended the process, or its error, or else its last line of output."""
    if code < 0:
        end = describe_end(code)
        return f"ended by {end}{' (out of memory?)' if end == 'SIGKILL' else ''}"
    return error or (output.strip().splitlines() or [f"{describe_end(code)} without a word"])[-1].strip()
