"""The interface of launchers, and the tasks that they carry out. Loads no torch.

A launcher is found by its entry point in the group ``buttress.launchers``. Its settings are the keyword-only, annotated
parameters of its class, as those of every component, and come from ``--launcher-option key=value``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from buttress.processes import Apart

JOB_ID = "BUTTRESS_JOB_ID"
"""Environment variable with the id of a task's job, from a launcher whose queue carries it out once at a time."""


@dataclass(frozen=True, eq=False)
class Task:
    """Work for a process of its own.

    Args:
        name: name in messages and in queues, such as ``"digits-rwp, seed 0"``.
        function: function of a module, which carries out the order.
        order: order for the function, a JSON value.
        log: file that the output of the process is appended to.
        error_file: file of ``error_kept_in``, in which the function leaves its error.
    """

    name: str
    function: Apart
    order: Any = field(repr=False)
    log: Path
    error_file: Path


@dataclass(frozen=True, eq=False)
class TaskEnd:
    """The end of a task.

    Args:
        task: task that has ended.
        code: exit code of its process; minus the number of the signal that ended it; None where nobody knows it.
        error: reason of a failure, one line; empty where the code is 0.
        seconds: time since the task was submitted.
        stopped: whether it ended after ``stop``, so that it may have ended early.
    """

    task: Task
    code: int | None
    error: str
    seconds: float
    stopped: bool = False


class Launcher(ABC):
    """Carries out tasks, each in a process of its own.

    ``open`` is called first and ``close`` last. ``submit`` and ``ended`` are called as often as the caller likes,
    between them and by turns: tasks may depend on the ends of others. All calls come from one thread, and none but
    ``close`` waits for a task.
    """

    @abstractmethod
    def open(self, folder: Path, jobs: int | None) -> None:
        """Get ready for tasks.

        Args:
            folder: folder of the tasks' logs and of files of the launcher's own, which need not exist; all machines see
                it.
            jobs: largest number of tasks at work at once; None for the launcher's own.

        Raises:
            InputError: the launcher cannot work here.
        """

    @abstractmethod
    def terms(self, count: int) -> str:
        """How ``count`` tasks will be carried out, for a line of progress: ``"2 at once, OMP_NUM_THREADS=1 each"``."""

    @abstractmethod
    def room(self) -> int:
        """Number of further tasks that ``submit`` takes now."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Begin tasks, or put them into a queue that does; at most ``room()``.

        Raises:
            WorkError: they cannot be begun.
        """

    @abstractmethod
    def ended(self) -> list[TaskEnd]:
        """The tasks that have ended since the last call, each once."""

    @abstractmethod
    def stop(self, *, at_once: bool = False) -> None:
        """Ask every task to save itself and to end; ``at_once`` ends those that were asked before.

        May be called again and again. A launcher whose tasks go on without it gives them as ended (and stopped), and
        names them in ``left_behind``.
        """

    @abstractmethod
    def close(self) -> None:
        """End every task that ends with the launcher, and wait for it."""

    def takes_up(self, task: Task) -> bool:
        """Whether an earlier command has handed the task over, and ``submit`` takes it up where it waits or works."""
        return False

    def answers(self, task: Task) -> IO[bytes] | None:
        """The stream of the answers of a task at work, which the caller closes; None where there is no such stream."""
        return None

    def left_behind(self) -> str:
        """A sentence about tasks that go on after ``stop``, with the cure; empty where there are none."""
        return ""
