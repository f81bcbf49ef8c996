"""Files verified once: read again as soon as anybody may have changed them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from buttress.storage import verified_files
from buttress.storage.reading import file_sha256
from buttress.storage.verified_files import VerifiedFiles


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were hashed."""
    found: list[Path] = []
    has_sha256 = verified_files.has_sha256

    def reading(path: Path, sha256: str) -> bool:
        found.append(path)
        return has_sha256(path, sha256)

    monkeypatch.setattr(verified_files, "has_sha256", reading)
    return found


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds after everything that a test writes."""
    monkeypatch.setattr(verified_files, "time", lambda: time.time() + 10)


def written(folder: Path) -> tuple[Path, str]:
    path = folder / "a"
    path.write_bytes(b"content")
    return path, file_sha256(path)


@pytest.mark.usefixtures("later")
def test_a_file_that_nobody_touches_is_read_once(tmp_path: Path, reads: list[Path]):
    path, sha256 = written(tmp_path)
    verified = VerifiedFiles()
    assert all(verified.has_sha256(path, sha256) for _ in range(3))
    assert reads == [path]
    assert not verified.has_sha256(path, "0" * 64)
    assert VerifiedFiles().has_sha256(path, sha256)
    assert len(reads) == 3


def test_a_file_that_has_just_changed_is_read_every_time(tmp_path: Path, reads: list[Path]):
    """Its next change may come within the same tick of the file system's clock."""
    path, sha256 = written(tmp_path)
    verified = VerifiedFiles()
    assert all(verified.has_sha256(path, sha256) for _ in range(3))
    assert len(reads) == 3


def _in_place(path: Path) -> None:
    path.write_bytes(b"c0ntent")


def _with_its_old_times(path: Path) -> None:
    before = path.stat()
    _in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _by_another_file(path: Path) -> None:
    other = path.with_name("b")
    _in_place(other)
    other.replace(path)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [_in_place, _with_its_old_times, _by_another_file, Path.unlink])
def test_a_change_of_any_kind_is_noticed(tmp_path: Path, change: Callable[[Path], None]):
    path, sha256 = written(tmp_path)
    verified = VerifiedFiles()
    assert verified.has_sha256(path, sha256)
    time.sleep(0.05)  # several ticks of the file system's clock; in earnest it is two seconds
    change(path)
    assert not verified.has_sha256(path, sha256)
    assert not verified.has_sha256(path, sha256)
