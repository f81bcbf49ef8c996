"""Run a part: in a process of its own with a time limit, or here, where nothing can hang."""

import io
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import monotonic
from typing import Literal, NamedTuple
from unittest.mock import patch

State = Literal["passed", "failed", "timed out", "left out"]


class Outcome(NamedTuple):
    """The way in which a part ended.

    Args:
        state: verdict.
        reason: a line that says why it did not pass, or an empty text.
        seconds: time that it took.
        output: text that it printed.
        errors: text that it printed as errors.
    """

    state: State
    reason: str = ""
    seconds: float = 0.0
    output: str = ""
    errors: str = ""


def apart(command: Sequence[str], limit: float, folder: Path) -> Outcome:
    """Run a Python script in a process of its own, which is ended with all that it started once the time is over.

    Args:
        command: path of the script and its arguments.
        limit: number of seconds that it has.
        folder: folder that it runs in.
    """
    began = monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        words = [sys.executable, *command]
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=errors, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        texts = [_text(each) for each in (output, errors)]
    return _outcome(code, monotonic() - began, *texts, limit)


def here(command: Sequence[str], folder: Path) -> Outcome:
    """Run a Python script in this process, as if it were started alone, in the folder ``folder``."""
    began, output, errors = monotonic(), io.StringIO(), io.StringIO()
    path, before = str(folder / command[0]), Path.cwd()
    code: int | None = 0
    with redirect_stdout(output), redirect_stderr(errors), patch.object(sys, "argv", [path, *command[1:]]):
        sys.path.insert(0, str(Path(path).parent))
        os.chdir(folder)
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            os.chdir(before)
            sys.path.remove(str(Path(path).parent))
    return _outcome(code, monotonic() - began, output.getvalue(), errors.getvalue())


def _outcome(code: int | None, seconds: float, output: str, errors: str, limit: float = 0.0) -> Outcome:
    if code == 0:
        return Outcome("passed", "", seconds, output, errors)
    if code is None:
        return Outcome("timed out", f"ended after {limit:.0f} s", seconds, output, errors)
    end = f"exit code {code}" if code > 0 else f"ended by signal {signal.Signals(-code).name}"
    lines = [line.strip() for text in (output, errors) for line in text.splitlines() if line.strip()]
    return Outcome("failed", f"{end}: {lines[-1]}" if lines else end, seconds, output, errors)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs, and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _text(stream: "tempfile._TemporaryFileWrapper[str]") -> str:
    stream.seek(0)
    return stream.read()
