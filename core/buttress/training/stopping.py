"""Ctrl-C and SIGTERM: the first asks a run to stop where it can continue exactly, the second stops it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether somebody has asked, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within the block signals are requests; in the main thread alone, where Python hears them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, _: object) -> None:
            for known, handler in before.items():
                signal.signal(known, handler)
            self.signal = signal.Signals(number).name
            _answer()

        before = {known: signal.signal(known, ask) for known in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for known, handler in before.items():
                signal.signal(known, handler)


def _answer() -> None:
    # os.write: print may be interrupted in the middle of itself
    os.write(2, b"\nstopping after this step or evaluation; once more to stop at once\n")
