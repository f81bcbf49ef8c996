"""Answers on standard output, notices and errors on standard error, and exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from shutil import get_terminal_size

from buttress.console.lasting import Lasting
from buttress.console.tables import wrapped
from buttress.console.tracebacks import note_of_traceback
from buttress.console.visible import visible
from buttress.errors import ButtressError, StorageError


class Exact(str):
    """Text for a program, printed as it is."""

    __slots__ = ()


def say(text: str) -> None:
    """Print the answer of a verb, its lines broken between words at the width of the terminal (80 without one)."""
    if text:
        shown = visible(text)
        print_to("stdout", shown if isinstance(text, Exact) else wrapped(shown, get_terminal_size().columns))


def notice(text: str, *, of_each: bool = False) -> None:
    """Print a notice about the work on standard error: ``buttress: importing torch ...``.

    Of the processes that torchrun or srun has started together, the first prints it for all; or each prints its own.
    """
    if of_each or _is_first():
        _print_message(f"buttress: {text}")


def _is_first() -> bool:
    """Whether no launcher has given this process another rank than 0; wrong variables are for ``Launch`` to refuse."""
    values = os.environ
    ranks = [values.get("RANK", "0") if "WORLD_SIZE" in values else "0"]
    if values.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        ranks.append(values.get("SLURM_PROCID", "0"))
    return all(rank in ("", "0") for rank in ranks)


def error(text: str) -> None:
    """Print the message of an error on standard error: ``error: ...``."""
    _print_message(f"error: {text}")


def _print_message(text: str) -> None:
    """One line for programs, wrapped for a person at a terminal."""
    message = visible(text)
    if Lasting("stderr").isatty():
        message = wrapped(message, get_terminal_size().columns)
    print_to("stderr", message)


def print_to(name: str, text: str) -> None:
    """Print a text, already made visible, on ``stdout`` or ``stderr``."""
    stream = Lasting(name)
    stream.write(f"{text}\n")
    stream.flush()


def account_for(output: Lasting, answered: bool) -> None:
    """Report a loss on standard output, such as a full disk; a reader that has gone (``| head``) is no loss.

    Args:
        output: standard output, at the end of a verb.
        answered: whether the answer of the verb was printed there.

    Raises:
        StorageError: the answer was printed, and is lost.
    """
    if not output.loss:
        return
    if answered:
        raise StorageError(f"standard output cannot be written: {output.loss}; send it elsewhere")
    notice(f"standard output could not be written ({output.loss}); the work was done without it")


def exit_code_of(call: Callable[[], object]) -> int:
    """Run ``call``; an error of buttress becomes one message and its exit code."""
    try:
        call()
        return 0
    except ButtressError as problem:
        if not problem.reported:
            rank = "" if problem.rank is None else f"rank {problem.rank}: "
            error(f"{rank}{problem}{note_of_traceback(problem)}")
        return problem.exit_code
    except KeyboardInterrupt:
        notice("stopped")
        return 1
