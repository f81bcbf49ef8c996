"""Leases between processes and machines: one holder at a time, and none that is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from buttress.storage import leases
from buttress.storage.holders import Holder, beginning_of, machine_identity
from buttress.storage.leases import holder_of, leased

BEAT = 0.05

HOLD = """
import sys, time
from pathlib import Path
from buttress.storage.leases import leased
with leased(Path(sys.argv[1]), beat=0.05) as lease:
    print("held" if lease else "not held", flush=True)
    sys.stdin.readline()
"""

RACE = """
import sys, time
from pathlib import Path
from buttress.storage.leases import leased
path, book = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(4):
    with leased(path, wait=True, beat=0.05, silence=0.1):
        before = int(book.read_text() or 0)
        time.sleep(0.002)
        book.write_text(str(before + 1))
"""


def start(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lease, or tries to."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def elsewhere(path: Path, **facts: Any) -> Path:
    """Make the file of a lease that a process of another machine holds."""
    holder = {"host": "far", "pid": 7, "job": None, "since": "2026-01-01T00:00:00+00:00", "machine": "far", **facts}
    file = path.with_name(f"{path.name}.3")
    file.write_text(json.dumps(holder))
    return file


def age(file: Path, seconds: float) -> None:
    """Set the time at which a file was changed."""
    os.utime(file, (time.time() - seconds,) * 2)


def test_a_lease_has_one_holder_and_is_free_afterwards(tmp_path: Path):
    path = tmp_path / "logs" / "run.lease"
    assert holder_of(path) is None
    with leased(path, beat=BEAT) as mine, leased(path, beat=BEAT) as other:
        assert mine
        assert other is None
        mine.note("epoch 2", 0.5, 3.0)
        deadline = time.monotonic() + 30
        while (holder := holder_of(path)) is None or holder.doing != "epoch 2":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (holder.pid, holder.share, holder.left) == (os.getpid(), 0.5, 3.0)
    assert holder_of(path) is None
    with leased(path, beat=BEAT) as again:
        assert again
    assert [each.name for each in path.parent.iterdir()] == ["run.lease.2"]


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path):
    path = tmp_path / "run.lease"
    with start(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        holder = holder_of(path)
        assert holder is not None
        assert holder.pid == process.pid
        with leased(path) as mine:
            assert mine is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert holder_of(path) is None
        with leased(path) as mine:
            assert mine


def test_a_number_of_a_process_that_is_used_again_holds_nothing(tmp_path: Path):
    path = tmp_path / "run.lease"
    facts = {"host": "here", "machine": machine_identity(), "pid": os.getpid(), "began": "before"}
    elsewhere(path, **facts)
    assert holder_of(path) is None
    elsewhere(path, **{**facts, "began": beginning_of(os.getpid())})
    assert holder_of(path) is not None


def test_a_machine_is_lost_after_silence_and_not_before(tmp_path: Path):
    path = tmp_path / "run.lease"
    file = elsewhere(path)
    with leased(path, beat=BEAT, silence=60) as mine:
        assert mine is None
    assert str(holder_of(path)) == "far, process 7"
    age(file, 61)
    assert holder_of(path, silence=60) is None
    with leased(path, beat=BEAT, silence=60) as mine:
        assert mine
        assert not file.exists()


@pytest.mark.parametrize("ahead", [True, False], ids=["the file system's clock jumps ahead", "it is set back"])
def test_a_clock_that_is_set_anew_takes_no_lease_from_the_living(tmp_path: Path, ahead: bool):
    path = tmp_path / "run.lease"
    file = elsewhere(path)
    age(file, 1000 if ahead else -1000)
    changes = threading.Timer(BEAT, lambda: age(file, 999 if ahead else -999))  # a sign of life
    changes.start()
    with leased(path, beat=10 * BEAT, silence=10 * BEAT) as mine:
        assert mine is None
    changes.join()
    with leased(path, beat=BEAT, silence=2 * BEAT) as mine:
        assert mine


def test_a_job_that_is_carried_out_once_more_takes_its_own_lease(tmp_path: Path):
    path = tmp_path / "run.lease"
    elsewhere(path, job="12_3")
    for job, is_free in ((None, False), ("12_4", False), ("12_3", True)):
        with leased(path, job=job, beat=BEAT) as mine:
            assert (mine is not None) == is_free


def test_a_holder_that_is_taken_for_lost_learns_of_it(tmp_path: Path):
    path, lost = tmp_path / "run.lease", threading.Event()
    with leased(path, beat=BEAT, lost=lost.set) as mine:
        assert mine
        (tmp_path / "run.lease.2").write_text("{}")  # somebody else holds it now
        assert lost.wait(30)
        assert not mine.is_held()
    assert (tmp_path / "run.lease.2").read_text() == "{}"


def test_who_has_looked_at_an_old_number_does_not_take_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, free = tmp_path / "run.lease", leases._is_free
    with leased(path, beat=BEAT):
        pass

    def slow(file: Path, *words: Any) -> bool:
        """Meanwhile two others take the lease, one after the other."""
        monkeypatch.setattr(leases, "_is_free", free)
        with leased(path, beat=BEAT):
            pass
        others.append(leases._taken(path, None, BEAT, 60))
        return True

    others: list[object] = []
    monkeypatch.setattr(leases, "_is_free", slow)
    with leased(path, beat=BEAT) as mine:
        assert mine is None
    assert others != [None]


def test_many_processes_hold_it_one_at_a_time(tmp_path: Path):
    path, book = tmp_path / "run.lease", tmp_path / "book"
    book.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", RACE, str(path), str(book)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert book.read_text() == "12"


def test_a_file_that_is_just_being_made_is_held(tmp_path: Path):
    path = tmp_path / "run.lease"
    (tmp_path / "run.lease.1").touch()
    with leased(path, beat=BEAT) as mine:
        assert mine is None
    age(tmp_path / "run.lease.1", 1000)
    with leased(path, beat=BEAT) as mine:
        assert mine


def test_a_holder_reads_as_it_is_written():
    assert str(Holder("node7", 12, "81_4", "now")) == "node7, process 12, job 81_4"
