"""The launcher ``local``: processes on this machine, several at a time; one that crashes ends no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Annotated

from annotated_types import Ge

from buttress.launching.failure import reason_of
from buttress.launching.launcher import Launcher, Task, TaskEnd
from buttress.processes import python_environment, start_apart
from buttress.storage.files import make_folder, storage_errors


@dataclass
class _Running:
    """A task at work: since when, the size of its log before, the number of signals sent to stop it, and whether the
    caller reads its answers.
    """

    task: Task
    started: float
    log_size: int
    signals: int = 0
    is_read: bool = False


class LocalProcesses(Launcher):
    """Processes on this machine, as many at once as ``--jobs`` says (1).

    Args:
        threads: OMP_NUM_THREADS of each process; by default that of the environment, or else the share of each process
            of the processors.
    """

    def __init__(self, *, threads: Annotated[int, Ge(1)] | None = None) -> None:
        self._threads = threads
        self._jobs = 1
        self._running: dict[subprocess.Popen[bytes], _Running] = {}

    def open(self, folder: Path, jobs: int | None) -> None:
        self._jobs = jobs or 1

    def terms(self, count: int) -> str:
        return f"{min(self._jobs, count)} at once, OMP_NUM_THREADS={self._threads_each()} each"

    def room(self) -> int:
        return self._jobs - len(self._running)

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            with storage_errors(task.log):
                make_folder(task.log.parent)
                with task.log.open("ab") as log:
                    before = log.tell()
                    process = start_apart(
                        task.function,
                        [task.order],
                        errors=log,
                        env={**python_environment(), "OMP_NUM_THREADS": self._threads_each()},
                        start_new_session=True,  # Ctrl-C on the terminal is ours; we pass it on once
                    )
            self._running[process] = _Running(task, monotonic(), before)

    def answers(self, task: Task) -> IO[bytes] | None:
        process = next(process for process, running in self._running.items() if running.task is task)
        self._running[process].is_read = True
        return process.stdout

    def ended(self) -> list[TaskEnd]:
        ends = []
        for process in [process for process in self._running if process.poll() is not None]:
            running, code = self._running.pop(process), process.returncode
            if process.stdout is not None and not running.is_read:
                process.stdout.close()
            error = reason_of(running.task, code, running.log_size) if code else ""
            ends.append(TaskEnd(running.task, code, error, monotonic() - running.started, running.signals > 0))
        return ends

    def stop(self, *, at_once: bool = False) -> None:
        for process, running in self._running.items():
            if running.signals < 1 + at_once:
                (process.kill if running.signals else process.terminate)()
                running.signals += 1

    def close(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait()
        self._running.clear()

    def _threads_each(self) -> str:
        share = max(1, (os.cpu_count() or 1) // self._jobs)
        return str(self._threads or os.environ.get("OMP_NUM_THREADS") or share)
