"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere, and all lines in ``log.txt``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Column
from rich.text import Text

from buttress.console.lasting import Lasting
from buttress.console.pace import Pace
from buttress.console.tables import duration, wrapped
from buttress.console.visible import one_line, visible
from buttress.errors import StorageError
from buttress.storage.files import storage_errors

# Seconds between progress lines where there is no terminal.
LINE_EVERY = 30.0
# Seconds between calls of a listener, at least.
HEAR_EVERY = 0.5

Listener = Callable[[str, float, float | None], None]
"""Hears what is being done, the share that is done (0 to 1) and the seconds left, where they are known."""


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no colours, no lines broken by width."""
    stream = cast(IO[str], Lasting("stderr" if stderr else "stdout"))
    return Console(file=stream, soft_wrap=True, highlight=False, markup=False, emoji=False)


class Reporter:
    """Speaks to the console and to the log.

    Args:
        log: file to append to, or None before there is a run folder.
        console: where to speak; by default standard output, and standard error for what is only passing.
        listener: hears the progress too, about twice a second.
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
        self._pace, self._what, self._loss = Pace(), "", ""
        self._total = self._done = 0
        self._marked = self._last_line = monotonic()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end_status()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # Before there is anything to count

    def doing(self, what: str) -> None:
        """Show what is being done, until the next line or the progress bar; not in the log."""
        what = one_line(what)
        self._tell(what, 0.0, None)
        if not self._console.is_terminal:
            self._aside.print(f"{what} ...")
            return
        if self._status is None:
            self._status = Status(Text(what), console=self._console)
            self._status.start()
        self._status.update(Text(what))

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    # Progress

    def begin(self, total: int, done: int, what: str = "training") -> None:
        """Start counting steps of ``what``: ``done`` of ``total`` are behind us."""
        self._end_status()
        self._total, self._done, self._what, self._loss = total, done, what, ""
        self._pace = Pace()
        self._pace.begin_with("steps", done)
        self._pace.expect("steps", total - done)
        self._marked = self._last_line = monotonic()
        if self._console.is_terminal and self._bar is None:
            self._bar = _bar(self._console, self.seconds_left)
            self._bar.start()
        self._show()

    def expect(self, kind: str, units: float, each: float | None = None) -> None:
        """So many units of another kind of work than steps are ahead; ``each``: seconds a unit, until measured."""
        self._pace.expect(kind, units, each)

    def skip(self, kind: str, units: float) -> None:
        """So many of the units ahead turned out not to be needed."""
        self._pace.skip(kind, units)

    def advance(self, description: str, steps: int = 1) -> None:
        """So many more steps are done."""
        self._done += steps
        self._move("steps", description, steps)

    def busy(self, kind: str, activity: str, units: float) -> None:
        """So many units of another kind of work than steps are done; ``activity``: ``"evaluating live"``."""
        self._move(kind, self._what, units, f", {activity}")

    def loss(self, loss: float) -> None:
        """The training loss that is shown from now on, in nats."""
        self._loss = f", loss {loss:.3f}"

    def rewind(self, done: int) -> None:
        """``done`` steps are behind us, fewer than there were."""
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
        self._marked, self._what = now, description
        self._show(activity)
        left = self._pace.seconds_left
        if self._bar is None and left and now - self._last_line > LINE_EVERY:
            what = f"{self._what}{self._loss}{activity}"
            self.say(f"{what}: step {self._done}/{self._total}, about {duration(left)} left")

    def _show(self, activity: str = "") -> None:
        what = one_line(f"{self._what}{self._loss}{activity}")
        self._tell(what, self._pace.share, self._pace.seconds_left)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._pace.share, description=what)

    def _tell(self, what: str, share: float, left: float | None) -> None:
        if self._listener is not None and monotonic() - self._last_heard > HEAR_EVERY:
            self._last_heard = monotonic()
            self._listener(what, share, left)

    # Lines

    def say(self, text: str) -> None:
        """A line on the console and in the log."""
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
        """Keep the log in ``log`` from now on; what was said before there was one goes there first.

        Raises:
            StorageError: it cannot be written. Later on that is said once and ends no work: lines are kept for then.
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


class _TimeLeft(ProgressColumn):
    """``about 3 min left``, going down between one step and the next."""

    def __init__(self, seconds_left: Callable[[], float | None]) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._seconds_left = seconds_left

    def render(self, task: Task) -> Text:
        left = self._seconds_left()
        return Text("" if left is None else f"{duration(left)} left")


def _bar(console: Console, seconds_left: Callable[[], float | None]) -> Progress:
    bar = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        _TimeLeft(seconds_left),
        console=console,
        expand=True,
    )
    bar.add_task("", total=1.0)
    return bar


@contextmanager
def byte_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; the function inside takes bytes done and bytes in all."""
    console = Console(file=cast(IO[str], Lasting("stdout")))
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(one_line(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
