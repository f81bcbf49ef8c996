"""Progress of a run for a person: a bar on a terminal, plain lines elsewhere, and every line in ``log.txt``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, cast

from rich.console import Console
from rich.progress import Progress
from rich.status import Status
from rich.text import Text

from buttress.console.bars import progress_bar
from buttress.console.lasting import Lasting
from buttress.console.pace import Pace
from buttress.console.tables import duration, wrapped
from buttress.console.visible import one_line, visible
from buttress.errors import StorageError
from buttress.storage.files import storage_errors

# Seconds between progress lines where there is no terminal.
LINE_EVERY = 30.0
# Least number of seconds between two calls of a listener.
HEAR_EVERY = 0.5

Listener = Callable[[str, float, float | None], None]
"""A function of the present activity, the share that is done (0 to 1) and the seconds left, where known."""


def plain_console(*, stderr: bool = False, silent: bool = False) -> Console:
    """A console that prints text as it is, without markup, colours and lines broken by width; or prints nothing."""
    stream = cast(IO[str], Lasting("stderr" if stderr else "stdout"))
    return Console(file=stream, soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=silent)


class Reporter:
    """Prints lines and progress on the console, and appends the lines to the log.

    Args:
        log: file to append to, or None before there is a run folder.
        console: console to print on; by default standard output, and standard error for passing activities.
        listener: called with the progress about twice a second.
    """

    def __init__(
        self, log: Path | None = None, console: Console | None = None, listener: Listener | None = None
    ) -> None:
        self._log = log
        self._unwritten: list[str] = []
        self._log_failed = False
        self._console, self._aside = console or plain_console(), console or plain_console(stderr=True)
        self._listener, self._last_heard = listener, 0.0
        self._status: Status | None = None
        self._bar: Progress | None = None
        self._pace, self._activity, self._loss = Pace(), "", ""
        self._total = self._done = 0
        self._marked = self._last_line = monotonic()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end_status()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # Activities before there is anything to count

    def doing(self, activity: str) -> None:
        """Show an activity until the next line or the progress bar; the log does not get it."""
        activity = one_line(activity)
        self._call_listener(activity, 0.0, None)
        if not self._console.is_terminal:
            self._aside.print(f"{activity} ...")
            return
        if self._status is None:
            self._status = Status(Text(activity), console=self._console)
            self._status.start()
        self._status.update(Text(activity))

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    # Progress

    def begin(self, total: int, done: int, activity: str = "training") -> None:
        """Start counting the steps of an activity, of which ``done`` of ``total`` are behind us."""
        self._end_status()
        self._total, self._done, self._activity, self._loss = total, done, activity, ""
        self._pace = Pace()
        self._pace.begin_with("steps", done)
        self._pace.expect("steps", total - done)
        self._marked = self._last_line = monotonic()
        if self._console.is_terminal and self._bar is None:
            self._bar = progress_bar(self._console, self.seconds_left)
            self._bar.start()
        self._show()

    def expect(self, kind: str, units: float, each: float | None = None) -> None:
        """Set the number of units ahead for a kind of work beside steps; ``each``: seconds a unit, until measured."""
        self._pace.expect(kind, units, each)

    def skip(self, kind: str, units: float) -> None:
        """Drop ``units`` ahead that turned out not to be needed."""
        self._pace.skip(kind, units)

    def advance(self, description: str, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._done += steps
        self._move("steps", description, steps)

    def busy(self, kind: str, activity: str, units: float) -> None:
        """Count units of a kind of work beside steps as done; ``activity``: ``"evaluating live"``."""
        self._move(kind, self._activity, units, f", {activity}")

    def loss(self, loss: float) -> None:
        """Show this training loss, in nats, from now on."""
        self._loss = f", loss {loss:.3f}"

    def rewind(self, done: int) -> None:
        """Set the number of steps behind us to ``done``, fewer than before."""
        self._pace.expect("steps", self._total - done)
        self._done = done
        self._show()

    def seconds_left(self) -> float | None:
        """Seconds until all work is done, or None before any has been measured."""
        left = self._pace.seconds_left
        return None if left is None else max(0.0, left - (monotonic() - self._marked))

    def _move(self, kind: str, description: str, units: float, activity: str = "") -> None:
        now = monotonic()
        self._pace.done(kind, units, now - self._marked)
        self._marked, self._activity = now, description
        self._show(activity)
        left = self._pace.seconds_left
        if self._bar is None and left and now - self._last_line > LINE_EVERY:
            line = f"{self._activity}{self._loss}{activity}"
            self.say(f"{line}: step {self._done}/{self._total}, about {duration(left)} left")

    def _show(self, activity: str = "") -> None:
        line = one_line(f"{self._activity}{self._loss}{activity}")
        self._call_listener(line, self._pace.share, self._pace.seconds_left)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._pace.share, description=line)

    def _call_listener(self, activity: str, share: float, left: float | None) -> None:
        if self._listener is not None and monotonic() - self._last_heard > HEAR_EVERY:
            self._last_heard = monotonic()
            self._listener(activity, share, left)

    # Lines

    def say(self, text: str) -> None:
        """Print a line on the console and append it to the log."""
        text = visible(text)
        self._end_status()
        self._last_line = monotonic()
        self._print(text)
        self._unwritten.append(text)
        if self._log is not None:
            self._append_to(self._log)

    def _print(self, text: str) -> None:
        self._console.print(wrapped(text, self._console.width))

    def write_to(self, log: Path) -> None:
        """Append all lines to ``log`` from now on, those from before first.

        Raises:
            StorageError: the log cannot be written. Later failures are reported once and end no work; the lines are
                kept until the log can be written again.
        """
        self._log = log
        with storage_errors(log), log.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{text}\n" for text in self._unwritten)
        self._unwritten.clear()

    def _append_to(self, log: Path) -> None:
        try:
            self.write_to(log)
        except StorageError as problem:
            if not self._log_failed:
                self._log_failed = True
                self._print(visible(f"the work goes on without its log: {problem}"))
