"""Processes of our own, and the signals that ask one to stop: Ctrl-C, a closed terminal, a batch scheduler."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# SIGHUP comes from a terminal that is closed, SIGXCPU from a limit on CPU time (every second from then on), the others
# from schedulers before their time limit. Windows has two of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
STOP_SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))

_ANSWER = b"\nstopping after this step or evaluation; Ctrl-C once more stops at once\n"


# Before anything else is imported: torch ends at a distribution with broken metadata.
_BEGINNING = "from buttress.components.metadata import pass_over_unreadable; pass_over_unreadable()"


def python_command(program: str) -> list[str]:
    """The command that runs ``program`` (Python) in a process of its own, on modules of the installation alone.

    Python itself would look for modules in the working folder first, where a ``types.py`` of somebody's lies.
    """
    return [sys.executable, "-P", "-c", f"{_BEGINNING}\n{program}"]


def python_environment() -> dict[str, str]:
    """The environment for ``python_command``: without the empty parts of PYTHONPATH, which mean the working folder."""
    found = dict(os.environ)
    parts = [part for part in found.pop("PYTHONPATH", "").split(os.pathsep) if part]
    return {**found, "PYTHONPATH": os.pathsep.join(parts)} if parts else found


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
