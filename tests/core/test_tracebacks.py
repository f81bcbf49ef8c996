"""The temporary files in which tracebacks are kept where there is no run folder."""

import os
from pathlib import Path

import pytest

from buttress.console.tracebacks import note_of_traceback
from buttress.errors import PluginError


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def kept() -> Path:
    """The file with the traceback of a new error."""
    problem = PluginError("broken", place="mine.py:3")
    assert note_of_traceback(problem) == f"\n  The traceback is in {problem.log}"
    assert problem.log is not None
    assert "PluginError: broken (mine.py:3)" in problem.log.read_text()
    return problem.log


def test_the_newest_twenty_are_kept_in_one_folder_that_nobody_else_reads(temporary: Path):
    files = []
    for n in range(25):
        files.append(kept())
        os.utime(files[-1], (n, n))
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert set(folder.iterdir()) == set(files[-20:])


def test_files_of_other_names_stay(temporary: Path):
    other = kept().with_name("notes.txt")
    other.write_text("mine")
    for _ in range(25):
        kept()
    assert other.exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(temporary: Path):
    folder, elsewhere = kept().parent, temporary / "elsewhere"
    folder.rename(elsewhere)
    before = set(elsewhere.iterdir())
    folder.symlink_to(elsewhere)
    assert kept().parent == temporary
    assert set(elsewhere.iterdir()) == before


def test_a_folder_of_another_user_is_not_used(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    folder, user = kept().parent, os.getuid()
    monkeypatch.setattr("os.getuid", lambda: user + 1)
    folder.rename(temporary / f"buttress-{user + 1}")
    assert kept().parent == temporary
