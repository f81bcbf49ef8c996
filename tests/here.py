"""What buttress carries out in a process of its own, carried out in this one, which has torch loaded already.

For tests of what is done, and not of the process: nothing here can be ended, or ends the tests with it.
"""

import json
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import IO, Any

from buttress.processes import Apart, Channel, Outcome, Reference, whole_lines


class Done:
    """A process that has ended, as ``buttress.processes.start_apart`` would have started it."""

    def __init__(
        self, function: Apart | Reference, orders: Sequence[object], *, errors: IO[bytes], **options: Any
    ) -> None:
        self.stdout = tempfile.TemporaryFile()  # noqa: SIM115 - the pool closes it
        self.returncode = 0
        if isinstance(function, Reference):
            function = getattr(import_module(function.module), function.name)
        with open(errors.fileno(), "w", closefd=False) as log, redirect_stdout(log), redirect_stderr(log):
            try:
                _answer(function, orders, self.stdout)
            except SystemExit as end:
                self.returncode = int(end.code or 0)
        self.stdout.seek(0)

    def wait(self) -> int:
        return self.returncode

    def poll(self) -> int:
        return self.returncode


def run_here(function: Apart, orders: Sequence[object]) -> Outcome:
    """As ``buttress.processes.run_apart``."""
    with tempfile.TemporaryFile() as answers:
        _answer(function, orders, answers)
        answers.seek(0)
        return Outcome(whole_lines(answers.read()), "exit code 0")


def _answer(function: Apart, orders: Sequence[object], answers: IO[bytes]) -> None:
    """Carry out orders that have been text, and write the answers."""
    for order in json.loads(json.dumps(orders)):
        function(order, Channel(answers.fileno()))
