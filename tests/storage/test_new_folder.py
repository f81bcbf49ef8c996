"""Folders that appear whole: nothing is there before, nothing is left of what failed or was killed."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from buttress.storage.files import make_folder
from buttress.storage.new_folder import new_folder


def test_a_folder_appears_with_all_that_was_put_into_it(tmp_path: Path):
    path = tmp_path / "runs" / "a"
    with new_folder(path) as inside:
        (inside / "file").write_text("text")
        assert not path.exists()
    assert [each.name for each in path.parent.iterdir()] == ["a"]
    assert (path / "file").read_text() == "text"


def test_nothing_is_left_of_one_that_failed(tmp_path: Path):
    with suppress(ZeroDivisionError), new_folder(tmp_path / "a") as inside:
        (inside / "file").write_text("text")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_there_is_never_replaced(tmp_path: Path, there: str):
    path = tmp_path / "a"
    making = new_folder(path)
    (making.__enter__() / "file").write_text("text")
    if there == "folder":  # another process has come first
        path.mkdir()
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError):
        making.__exit__(None, None, None)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.is_dir() == (there == "folder")


KILLED = """
import os, pathlib, sys
from buttress.storage.new_folder import new_folder
with new_folder(pathlib.Path(sys.argv[1])) as inside:
    (inside / "file").write_text("text")
    os._exit(9)
"""


def test_the_next_one_removes_what_a_killed_process_has_left_and_nothing_else(tmp_path: Path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".mine.new").mkdir()
    with new_folder(tmp_path / "a") as one, new_folder(tmp_path / "b") as other:  # the first is at work meanwhile
        assert {each.name for each in tmp_path.iterdir()} == {one.name, other.name, ".mine.new"}
    assert {each.name for each in tmp_path.iterdir()} == {"a", "b", ".mine.new"}


def test_every_new_parent_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))  # noqa: PTH115
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
