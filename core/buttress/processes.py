"""Processes of our own, and the signals that ask one to stop: Ctrl-C, a closed terminal, a batch scheduler."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import IO, Any

# SIGHUP comes from a terminal that is closed, SIGXCPU from a limit on CPU time (every second from then on), the others
# from schedulers before their time limit. Windows has two of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
STOP_SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))

# Signals whose handlers may raise: those above, of an alarm (a time limit), and of a child's end (torch's DataLoader).
_RAISING = (*STOP_SIGNALS, *(signal.Signals[name] for name in ("SIGALRM", "SIGCHLD") if hasattr(signal, name)))

_ANSWER = b"\nstopping after this step or evaluation; Ctrl-C once more stops at once\n"


# Before anything else is imported: torch ends at a distribution with broken metadata.
_BEGINNING = "from buttress.components.metadata import pass_over_unreadable; pass_over_unreadable()"


def python_command(program: str) -> list[str]:
    """The command that runs ``program`` (Python) in a process of its own, on modules of the installation alone.

    Python itself would look for modules in the working folder first, where a ``types.py`` of somebody's lies.
    """
    return [sys.executable, "-P", "-c", f"{_BEGINNING}\n{program}"]


# Variables by which torchrun and srun tell a process its place among those that they have started together.
_PLACE = re.compile(
    "RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|GROUP_RANK|GROUP_WORLD_SIZE|ROLE_RANK|ROLE_WORLD_SIZE|ROLE_NAME|"
    "MASTER_ADDR|MASTER_PORT|TORCHELASTIC_.*|SLURM_PROCID|SLURM_LOCALID|SLURM_STEP_NUM_TASKS|SLURM_STEP_TASKS_PER_NODE"
)


def variables_of_place(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that make a process one of several of torchrun or srun."""
    return [name for name in environment if _PLACE.fullmatch(name)]


def python_environment() -> dict[str, str]:
    """The environment for ``python_command``.

    It lacks the empty parts of PYTHONPATH, which mean the working folder; and the variables of torchrun and srun, since
    the new process is none of those that they have started.
    """
    place = variables_of_place(os.environ)
    environment = {name: value for name, value in os.environ.items() if name not in place}
    parts = [part for part in environment.pop("PYTHONPATH", "").split(os.pathsep) if part]
    return {**environment, "PYTHONPATH": os.pathsep.join(parts)} if parts else environment


# Functions in processes of their own: orders go in on standard input as one JSON text, answers come out on standard
# output as lines of JSON. A process may be lost at any moment; its whole lines are kept.


class Channel:
    """The answers of a process of its own, on their way to the process that started it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, answer: object) -> None:
        """Write one answer, a JSON value; what JSON does not know becomes its text.

        Raises:
            OSError: nobody reads the answers any more, or, after ``never_wait``, nobody does now.
        """
        rest = f"{json.dumps(answer, default=str)}\n".encode()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def never_wait(self) -> None:
        """Refuse an answer that would have to wait until somebody reads."""
        os.set_blocking(self._descriptor, False)


Apart = Callable[[Any, Channel], None]
"""A function of a module that carries out one order, a JSON value, and sends its answers."""


@dataclass(frozen=True)
class Reference:
    """A function of a module by its names, for whoever starts it and need not import it.

    Args:
        module: name of the module.
        name: name of the function in it.
    """

    module: str
    name: str


@dataclass(frozen=True)
class Outcome:
    """The result of a process of its own.

    Args:
        answers: answers to all orders, as far as it came.
        end: how it ended, as ``describe_end``; None where its time ran out.
        errors: its standard error, where that was kept.
    """

    answers: list[Any]
    end: str | None
    errors: str = ""


def run_apart(
    function: Apart, orders: Sequence[object], timeout: float | None = None, *, quiet: bool = False
) -> Outcome:
    """Carry out orders one after the other in a process of its own, which may crash, hang or end itself.

    Args:
        function: a function of a module, imported there.
        orders: JSON values.
        timeout: number of seconds after which the process is ended; None to wait for ever.
        quiet: discard the output of the process and keep its standard error; else both are shown on standard error.
    """
    with start_apart(function, orders, quiet=quiet, errors=subprocess.PIPE if quiet else None) as process:
        answers: bytes | None
        errors: bytes | None
        end: str | None
        try:
            answers, errors = process.communicate(timeout=timeout)
            end = describe_end(process.returncode)
        except subprocess.TimeoutExpired as expired:
            answers, errors, end = expired.stdout, expired.stderr, None
        finally:
            process.kill()  # does nothing to one that has ended
    return Outcome(whole_lines(answers or b""), end, (errors or b"").decode(errors="replace"))


def start_apart(
    function: Apart | Reference,
    orders: Sequence[object],
    *,
    errors: int | IO[bytes] | None,
    quiet: bool = False,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start the process of ``run_apart``; its ``stdout`` gives the answers.

    Args:
        function: a function of a module, imported there.
        orders: JSON values.
        errors: standard error of the process, as for ``subprocess.Popen``.
        quiet: discard the output of the process, which is shown on its standard error otherwise.
        options: further arguments for ``subprocess.Popen``.
    """
    names = function if isinstance(function, Reference) else Reference(function.__module__, function.__qualname__)
    arguments = f"{names.module!r}, {names.name!r}, quiet={quiet!r}"
    with tempfile.TemporaryFile() as written:
        written.write(json.dumps(orders).encode())
        written.seek(0)
        return subprocess.Popen(
            python_command(f"from buttress.processes import answer_orders; answer_orders({arguments})"),
            stdin=written,
            stdout=subprocess.PIPE,
            stderr=errors,
            **{"env": python_environment(), **options},
        )


def answer_orders(module: str, name: str, *, quiet: bool) -> None:
    """The part of ``run_apart`` in the new process. Ctrl-C ends it without a word: the command itself has one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    orders = json.load(sys.stdin)
    channel = Channel(os.dup(1))
    os.dup2(os.open(os.devnull, os.O_WRONLY) if quiet else 2, 1)
    function: Apart = getattr(import_module(module), name)
    for order in orders:
        function(order, channel)


def whole_lines(written: bytes) -> list[Any]:
    """The values of all lines that are whole; a process that is lost leaves half of one."""
    return [json.loads(line) for line in written.split(b"\n")[:-1]]


def describe_end(code: int) -> str:
    """How a process ended, by its return code: ``exit code 3``, or the name of the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # the real-time signals have no names
        return f"signal {-code}"


class StopRequest:
    """Whether somebody has asked the process to stop, and by which signal.

    Args:
        at_once: called on Ctrl-C after the first request, in place of raising KeyboardInterrupt. Other signals ask
            again as often as they like: schedulers and terminals repeat themselves.
    """

    def __init__(self, at_once: Callable[[], None] | None = None) -> None:
        self.signal: str | None = None
        """Name of the first signal, or None."""
        self._at_once = at_once

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Turn signals into requests within the block. Only the main thread hears them, as Python has it.

        A signal that is ignored (``nohup``, a shell's background jobs) stays ignored, and one that the caller handles
        stays the caller's.
        """
        with _handled(self._ask):
            yield

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number).name
            with suppress(OSError):  # the terminal may be what has gone
                os.write(2, _ANSWER)  # print may have been interrupted in the middle of itself
        elif number == signal.SIGINT and self._at_once is None:
            signal.default_int_handler(number, frame)
        elif number == signal.SIGINT and self._at_once is not None:
            self._at_once()


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals be heard after the block, so that no exception of a handler ends it half-way.

    Python calls handlers in the main thread alone; in another one there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = {number: handler for number in _RAISING if callable(handler := signal.getsignal(number))}
    heard: dict[int, FrameType | None] = {}
    try:
        for each in own:
            signal.signal(each, heard.__setitem__)
        yield
    finally:
        for each, handler in own.items():
            signal.signal(each, handler)
        for number, frame in heard.items():
            own[signal.Signals(number)](number, frame)


class Interrupted(KeyboardInterrupt):
    """A signal that asks to stop, as an exception; the message is the signal's name."""


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let every signal that asks to stop interrupt the block at once, as Ctrl-C does.

    Raises:
        Interrupted: one came.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    with _handled(interrupt):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that would otherwise end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deadly = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    heard = [number for number, own in before.items() if own in deadly]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
