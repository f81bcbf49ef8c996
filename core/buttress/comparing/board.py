"""Show the progress of the runs of a comparison: bars on a terminal, elsewhere a line for each now and then."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

from buttress.console.reporter import LINE_EVERY, Listener, plain_console
from buttress.console.tables import duration
from buttress.processes import Channel
from buttress.storage.leases import holder_of

# Seconds between looks at the lease of a run that sends no messages.
_LOOK = 5.0
_WAITING = "waiting"


def listener_to(channel: Channel, *others: Listener) -> Listener:
    """A listener in the process of a run that passes everything on to a board, and to ``others``.

    A board that does not read, or has ended, loses messages and holds nobody up.
    """
    channel.never_wait()

    def hear(what: str, share: float, left: float | None) -> None:
        for other in others:
            other(what, share, left)
        with suppress(OSError):
            channel.send([what, share, left])

    return hear


@dataclass
class _Run:
    """A run that is at work: its last message, and half of the next one; or its lease, in which the message stands."""

    name: str
    pipe: IO[bytes] | None
    lease: Path | None = None
    looked: float = -inf
    task: TaskID | None = None
    what: str = "starting"
    share: float = 0.0
    left: float | None = None
    rest: bytes = field(default=b"", repr=False)

    def read(self) -> bool:
        """Read its messages; returns whether there was a new one."""
        if self.pipe is None:
            return self._read_lease()
        try:
            *lines, self.rest = (self.rest + os.read(self.pipe.fileno(), 65536)).split(b"\n")
        except BlockingIOError:
            return False
        if lines:
            self.what, self.share, self.left = json.loads(lines[-1])
        return bool(lines)

    def _read_lease(self) -> bool:
        if self.lease is None or monotonic() - self.looked < _LOOK:
            return False
        self.looked = monotonic()
        holder = holder_of(self.lease, now=time())
        news = (_WAITING, 0.0, None) if holder is None else (holder.doing, holder.share, holder.left)
        before, (self.what, self.share, self.left) = (self.what, self.share, self.left), news
        return news != before

    def __str__(self) -> str:
        left = "" if self.left is None else f", about {duration(self.left)} left"
        return f"{self.name}: {self.what}, {100 * self.share:.0f} %{left}"


class Board:
    """Shows every run that is at work.

    Args:
        say: takes lines where there is no terminal.
        console: where bars are drawn, if it is a terminal; standard output by default.
    """

    def __init__(self, say: Callable[[str], None], console: Console | None = None) -> None:
        self._say, self._console = say, console or plain_console()
        self._runs: dict[str, _Run] = {}
        self._bars: Progress | None = None
        self._last_line = monotonic()

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._bars = _bars(self._console)
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for name in list(self._runs):
            self.end(name)
        if self._bars is not None:
            self._bars.stop()

    def begin(self, name: str, pipe: IO[bytes]) -> None:
        """Show a run, whose process sends messages through ``pipe``; the board closes this end of it."""
        os.set_blocking(pipe.fileno(), False)
        self._add(_Run(name, pipe))

    def _add(self, run: _Run) -> None:
        self._runs[run.name] = run
        if self._bars is not None:
            run.task = self._bars.add_task(run.name, total=1.0, what=run.what, left="")

    def watch(self, name: str, lease: Path) -> None:
        """Show a run that sends no messages, from what its lease says."""
        self._add(_Run(name, None, lease, what=_WAITING))

    def end(self, name: str) -> None:
        """A run has ended."""
        run = self._runs.pop(name)
        if run.pipe is not None:
            run.pipe.close()
        if self._bars is not None and run.task is not None:
            self._bars.remove_task(run.task)

    def look(self) -> None:
        """Read the messages of the runs, and show them."""
        for run in self._runs.values():
            if run.read() and self._bars is not None and run.task is not None:
                left = "" if run.left is None else f"{duration(run.left)} left"
                self._bars.update(run.task, completed=run.share, what=run.what, left=left)
        if self._bars is None and monotonic() - self._last_line > LINE_EVERY:
            self._last_line = monotonic()
            waiting = [run for run in self._runs.values() if run.what == _WAITING]
            for run in self._runs.values():
                if run.what != _WAITING:
                    self._say(str(run))
            if waiting:
                self._say(f"{len(waiting)} waiting")


def _bars(console: Console) -> Progress:
    def text(template: str, ratio: int) -> TextColumn:
        return TextColumn(template, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=ratio))

    return Progress(
        text("{task.description}", 3),
        text("{task.fields[what]}", 5),
        BarColumn(bar_width=None, table_column=Column(ratio=2)),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
    )
