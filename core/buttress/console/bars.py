"""Progress bars of a terminal: for a run, and for bytes that are read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from rich.table import Column
from rich.text import Text

from buttress.console.lasting import Lasting
from buttress.console.tables import duration
from buttress.console.visible import one_line


class _TimeLeft(ProgressColumn):
    """``3 min left``, counting down between one step and the next."""

    def __init__(self, seconds_left: Callable[[], float | None]) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._seconds_left = seconds_left

    def render(self, task: Task) -> Text:
        left = self._seconds_left()
        return Text("" if left is None else f"{duration(left)} left")


def progress_bar(console: Console, seconds_left: Callable[[], float | None]) -> Progress:
    """A bar for one task whose ``completed`` runs from 0 to 1, with the remaining time."""
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
    """Show a bar on a terminal, and nothing elsewhere; yields a function of the bytes done and the bytes in total."""
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
