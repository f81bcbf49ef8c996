"""What a person sees of a run: a progress bar with ETA on a terminal, plain lines elsewhere, all in ``log.txt``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from buttress.files import storage_errors
from buttress.tables import duration

# Seconds between progress lines where there is no terminal.
LINE_EVERY = 30.0


class Reporter:
    """Speaks to the console and to the log.

    Args:
        log: file to append to, or None before there is a run folder.
        console: where to speak; standard output by default.
    """

    def __init__(self, log: Path | None = None, console: Console | None = None) -> None:
        self._log = log
        self._unwritten: list[str] = []
        self._console = console or Console(soft_wrap=True, highlight=False, markup=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = self._first = 0
        self._started = self._last_line = monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def begin(self, total: int, done: int, what: str = "training") -> None:
        """Start counting steps of ``what``: ``done`` of ``total`` are behind us."""
        self._total, self._done, self._first = total, done, done
        self._started = self._last_line = monotonic()
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task(what, total=total, completed=done)
            self._progress.start()

    def advance(self, description: str, steps: int = 1) -> None:
        """So many more steps are done."""
        self._done += steps
        if self._progress is not None:
            self._progress.update(self._task, advance=steps, description=description)
        elif self._done < self._total and monotonic() - self._last_line > LINE_EVERY:
            left = (monotonic() - self._started) / (self._done - self._first) * (self._total - self._done)
            self.say(f"{description}: step {self._done}/{self._total}, about {duration(left)} left")

    def rewind(self, done: int) -> None:
        """``done`` steps are behind us, fewer than there were."""
        self._done = self._first = done
        self._started = monotonic()
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """A line on the console and in the log."""
        self._last_line = monotonic()
        self._console.print(text)
        self._unwritten.append(text)
        if self._log is not None:
            self.write_to(self._log)

    def write_to(self, log: Path) -> None:
        """Keep the log in ``log`` from now on; what was said before there was one goes there first."""
        self._log = log
        with storage_errors(log), log.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{text}\n" for text in self._unwritten)
        self._unwritten.clear()


@contextmanager
def byte_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; the function inside takes bytes done and bytes in all."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
