"""The reason of a task's failure, in one line."""

from __future__ import annotations

from buttress.launching.launcher import Task
from buttress.launching.task_error import kept_error
from buttress.processes import describe_end


def reason_of(task: Task, code: int, log_size: int) -> str:
    """The signal that ended the process of a task, or its error, or else the last line of its output.

    Args:
        task: task that has failed.
        code: return code of its process, other than 0.
        log_size: size of its log in bytes before it began.
    """
    if code < 0:
        end = describe_end(code)
        return f"ended by {end}{' (out of memory?)' if end == 'SIGKILL' else ''}"
    if error := kept_error(task.error_file):
        return error
    output = task.log.read_bytes()[log_size:].decode(errors="replace") if task.log.exists() else ""
    return (output.strip().splitlines() or [f"{describe_end(code)} without a word"])[-1].strip()
