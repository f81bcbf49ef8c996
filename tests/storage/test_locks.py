"""Locks between processes: one holds it, the others are told so, and it ends with its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from buttress.errors import RunFolderError
from buttress.storage.locks import locked
from buttress.storage.run_folder import RunFolder

HOLD = """
import os, pathlib, sys
from buttress.storage.locks import locked
with locked(pathlib.Path(sys.argv[1]), wait=False) as mine:
    print(mine, flush=True)
    sys.stdin.read()
    os._exit(9)
"""


def test_only_one_holds_a_lock_and_it_ends_with_its_process(tmp_path: Path):
    lock = tmp_path / "folder" / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(lock, wait=False) as mine:
            assert not mine
        holder.communicate("")
    assert holder.returncode == 9
    with locked(lock, wait=True) as mine:
        assert mine
        with locked(lock, wait=False) as again:  # another descriptor, as of another process
            assert not again
    with locked(lock, wait=False) as mine:
        assert mine


def test_whoever_finds_a_run_folder_held_is_told_so(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.create("name: x", {})
    with (
        folder.held(),
        pytest.raises(RunFolderError, match=f"^{folder.path}: a process is at work there; wait for it, or stop it$"),
        RunFolder(folder.path).held(),
    ):
        pass
    with RunFolder(folder.path).held():
        pass


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("buttress.storage.locks.lock_descriptor", refuse)
    with locked(tmp_path / "a.lock", wait=True) as mine, locked(tmp_path / "a.lock", wait=False) as other:
        assert mine
        assert other
