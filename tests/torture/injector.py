"""Commands in processes in which one chosen file operation fails, or is the last before the process is killed.

A server that has imported everything forks a process for each command; ``failing_files.cpp`` stands between that and
libc.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

SOURCE = Path(__file__).with_name("failing_files.cpp")

MODES = ("count", "fail", "kill before", "kill within")
"""What happens to the chosen operation; the place is its number in ``failing_files.cpp``."""


def compiler() -> str | None:
    """The C++ compiler, or None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


def reason_to_skip() -> str:
    """Why nothing can be injected here; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD and /proc are those of Linux"
    return "" if compiler() else "no C++ compiler was found"


# What a command imports when it needs it, which each forked process would do anew.
_IMPORTED_LATE = (
    "buttress.cli.main",
    "buttress.kernels.native",
    "buttress.training.launch",
    "buttress_plugins.attacks.fgsm",
    "buttress_plugins.data.digits",
    "buttress_plugins.data.npz",
    "buttress_plugins.ensembles.meat",
    "buttress_plugins.losses.cross_entropy",
    "buttress_plugins.models.mlp",
)


@dataclass(frozen=True)
class Fault:
    """What is to happen to one file operation.

    Args:
        number: of the operation, from 1; 0 for none.
        mode: one of ``MODES``.
        code: errno of a failure.
    """

    number: int = 0
    mode: str = "count"
    code: int = 0

    def __str__(self) -> str:
        return f"operation {self.number}: {os.strerror(self.code) if self.mode == 'fail' else self.mode}"


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), what it said on standard error, number of operations."""

    code: int
    said: str
    operations: int


def build_library(work: Path) -> Path:
    """Compile ``failing_files.cpp`` into a library in ``work``."""
    library = work / "failing_files.so"
    options = ["-std=c++17", "-shared", "-fPIC", "-O1"]
    subprocess.run([str(compiler()), *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Injector:
    """The server, from the side of who gives the commands.

    Args:
        library: made by ``build_library``.
    """

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.injector"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "OMP_NUM_THREADS": "1",
                "XDG_CONFIG_HOME": str(library.parent / "configuration"),  # what the user trusts is not ours to add to
            },
            cwd=SOURCE.parents[2],
        )

    def run(self, words: Sequence[str], below: Path, fault: Fault = Fault(), log: Path | None = None) -> Ended:
        """``buttress WORDS``, with a fault at an operation below a folder.

        Args:
            words: of the command line; paths in them are whole.
            below: the folder whose operations count.
            fault: what happens; nothing by default.
            log: file for a line on each operation, its kind and its path; or None.
        """
        assert self._process.stdin
        assert self._process.stdout
        order = {
            "words": list(words),
            "below": str(below.resolve()),
            "fault": [fault.number, MODES.index(fault.mode), fault.code],
            "log": str(log) if log else None,
        }
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> "Injector":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)  # its pipes are closed, at which it ends


# The server's side


def serve() -> None:
    from . import warm  # noqa: F401

    for module in _IMPORTED_LATE:
        import_module(module)

    library = ctypes.CDLL(None)
    library.failing_files_count.restype = ctypes.c_long
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _obey(order, library, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            said = stream.read().decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended = {"code": code, "said": said, "operations": library.failing_files_count()}
        sys.stdout.write(f"{json.dumps(ended)}\n")
        sys.stdout.flush()


def _obey(order: dict[str, Any], library: Any, writer: int) -> None:
    """The command, in the forked process, which ends here."""
    from buttress.cli import main

    os.dup2(writer, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    code = 70
    try:
        with _quickly():
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if order["log"] else -1
            number, mode, error = map(ctypes.c_long, order["fault"])
            library.failing_files_begin(order["below"].encode(), number, mode, error, ctypes.c_long(log))
            code = main(order["words"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def _quickly() -> Iterator[None]:
    """Without what takes longer than the rest of so small a run and writes no file of it."""
    from .small import quickly

    no_forecast = SimpleNamespace(on=lambda processes: None)
    with quickly(), patch("buttress.training.launch.forecast_cost", lambda probe: no_forecast):
        yield


if __name__ == "__main__":
    serve()
