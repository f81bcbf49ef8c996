"""The process of a job in a queue: it starts a task in a process of its own, and passes signals on to it.

A scheduler sends a signal some time before it ends a job. The task saves itself and ends; then the handler that
submitit had set puts the job into the queue again, and the task goes on where it was. Loads no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from buttress.launching.launcher import JOB_ID
from buttress.processes import STOP_SIGNALS, Reference, python_environment, start_apart

_Handler = Callable[[int, FrameType | None], Any]


@dataclass(frozen=True)
class Supervisor:
    """The function that submitit carries out, pickled into the folder of its jobs.

    Args:
        function: names of the function of the task.
        order: order for the function.
        log: file that the output of the task is appended to.
        in_queue: whether this runs in a process of its own, which may end itself.
    """

    function: Reference
    order: Any = field(repr=False)
    log: Path
    in_queue: bool

    def __call__(self) -> tuple[int, int]:
        """Carry out the task.

        Returns:
            Exit code, or minus the number of the signal that ended it; size of the log before, in bytes.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            before = log.tell()
            process = start_apart(self.function, [self.order], errors=log, env=_environment(), start_new_session=True)
        with _passed_on(process) as heard:
            threading.Thread(target=_read_all, args=(process,), daemon=True).start()
            code = process.wait()
        if heard and (code != 0 or not self.in_queue):
            self._hand_back(heard)
        return code, before

    def checkpoint(self) -> Any:
        """The job that goes on with this one's work, for submitit: the same, since a task resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _hand_back(self, heard: dict[int, _Handler | None]) -> None:
        """Let the former handlers have the signals, now that the task has saved itself.

        That of submitit ends this process and puts the job into the queue again. After another signal in a queue, which
        may be the beginning of a cancellation, this process ends without a result, so that the queue alone decides.
        """
        preemption = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
        for number, handler in sorted(heard.items(), key=lambda pair: pair[0] != preemption):
            if handler is not None:
                handler(number, None)
        if self.in_queue:
            sys.exit(128 + next(iter(heard)))


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[dict[int, _Handler | None]]:
    """Pass the signals that ask to stop on to a process; gives those that came, with their former handlers.

    SIGTERM once more, from the executor ``local``, ends it at once: other schedulers repeat themselves.
    """
    is_local = os.environ.get("SUBMITIT_EXECUTOR") == "local"
    before = {number: handler for number in STOP_SIGNALS if (handler := signal.getsignal(number)) is not None}
    heard: dict[int, _Handler | None] = {}

    def pass_on(number: int, _: FrameType | None) -> None:
        former = before[signal.Signals(number)]
        at_once = is_local and number == signal.SIGTERM and number in heard
        heard.setdefault(number, former if callable(former) else None)
        process.send_signal(signal.SIGKILL if at_once else number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_all(process: subprocess.Popen[bytes]) -> None:
    """Read the answers, which nobody wants here, so that no task waits for a reader."""
    assert process.stdout is not None
    with process.stdout as answers:
        for _ in answers:
            pass


def _environment() -> dict[str, str]:
    """The environment of the task: its job's id, and as many threads as the job has processors."""
    environment = python_environment()
    queue = [environment.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")]
    if environment.get("SUBMITIT_EXECUTOR") == "slurm":
        environment[JOB_ID] = "_".join(filter(None, queue)) or environment["SLURM_JOB_ID"]
        if processors := environment.get("SLURM_CPUS_PER_TASK"):
            environment.setdefault("OMP_NUM_THREADS", processors)
    return environment
