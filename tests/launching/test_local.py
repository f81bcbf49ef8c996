"""Tasks in processes on this machine."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttress.launching.launcher import Task, TaskEnd
from buttress.launching.local import LocalProcesses

from ..core.test_processes import carry_out


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalProcesses]:
    """A launcher with room for two tasks, whose processes can import these tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    local = LocalProcesses()
    local.open(tmp_path, 2)
    yield local
    local.close()


def task(folder: Path, order: Any) -> Task:
    return Task(f"task {order}", carry_out, order, folder / "logs" / f"{order}.log", folder / f"{order}.json")


def all_ends(launcher: LocalProcesses, count: int) -> dict[str, TaskEnd]:
    """The ends of ``count`` tasks, by name."""
    ends: dict[str, TaskEnd] = {}
    deadline = time.monotonic() + 60
    while len(ends) < count:
        assert time.monotonic() < deadline, "waited for 60 seconds"
        ends |= {end.task.name: end for end in launcher.ended()}
        time.sleep(0.02)
    return ends


def test_tasks_are_submitted_by_turns_and_each_end_comes_once(launcher: LocalProcesses, tmp_path: Path):
    first = task(tmp_path, "raise")
    launcher.submit([first, task(tmp_path, "kill")])
    assert launcher.room() == 0
    answers = launcher.answers(first)
    assert answers is not None
    ends = all_ends(launcher, 2)
    with answers:
        assert json.loads(answers.readline()) == {"order": "raise"}
    assert (ends["task raise"].code, ends["task raise"].error) == (1, "of no use\nat all".splitlines()[-1])
    assert (ends["task kill"].code, ends["task kill"].error) == (-9, "ended by SIGKILL (out of memory?)")
    assert "printed by the function" in first.log.read_text()
    assert (launcher.ended(), launcher.room()) == ([], 2)
    launcher.submit([task(tmp_path, "nothing")])
    end = all_ends(launcher, 1)["task nothing"]
    assert (end.code, end.error, end.stopped) == (0, "", False)


def test_tasks_are_asked_to_stop_once_and_then_ended(launcher: LocalProcesses, tmp_path: Path):
    launcher.submit([task(tmp_path, "wait")])
    answers = launcher.answers(next(iter(launcher._running.values())).task)
    assert answers is not None
    answers.readline()  # it is at work
    launcher.stop()
    launcher.stop()
    end = all_ends(launcher, 1)["task wait"]
    assert (end.code, end.stopped) == (-signal.SIGTERM, True)
    answers.close()
