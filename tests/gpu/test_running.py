"""Parts run apart: their output, their ends, and that nothing of them outlives its time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu.running import _end, apart

CHILD = """
import subprocess, sys, pathlib, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
pathlib.Path("written").write_text(str(child.pid))
pathlib.Path("written").rename("pid")
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("print('fine')", "passed", ""),
        ("print('fine'); raise SystemExit('no good')", "failed", "exit code 1: no good"),
        ("import os; os.abort()", "failed", "ended by signal SIGABRT"),
    ],
)
def test_a_script_ends(text: str, state: str, reason: str, tmp_path: Path):
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    outcome = apart(["script.py"], 60, tmp_path)
    assert (outcome.state, outcome.reason) == (state, reason)
    assert outcome.output == ("fine\n" if "fine" in text else "")


def test_a_script_whose_time_is_over_is_ended(tmp_path: Path):
    (tmp_path / "script.py").write_text("import time; time.sleep(600)", encoding="utf-8")
    outcome = apart(["script.py"], 0.1, tmp_path)
    assert (outcome.state, outcome.reason) == ("timed out", "ended after 0 s")
    assert outcome.seconds < 60


def test_what_a_script_has_started_ends_with_it(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-S", "-c", CHILD], cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    _end(process)
    assert process.returncode < 0
    assert ended(child)


def ended(number: int) -> bool:
    """Whether a process ends within some seconds: it was told to, and may need a moment."""
    for _ in range(1000):
        if not runs(number):
            return True
        time.sleep(0.01)
    return False


def runs(number: int) -> bool:
    """Whether a process runs; one that was ended and that nobody waits for does not."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
