"""Files in installed packages: read, or refused with what to install."""

import gzip
from pathlib import Path

import pytest
from PIL import Image

from buttress.errors import DataError
from buttress.storage.packaged_file import open_packaged_file

PIP = {"distribution": "some-toys", "extra": "demo"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some_toys" / "data").mkdir(parents=True)
    (tmp_path / "some_toys" / "__init__.py").touch()
    (tmp_path / "some_toys" / "data" / "a.txt").write_bytes(b"content")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "some_toys"


def test_a_file_is_read_and_only_the_package_is_imported(package: Path):
    (package / "data" / "__init__.py").write_text("raise ImportError('slow')")
    with open_packaged_file("toys", "some_toys", "data/a.txt", **PIP) as stream:
        assert stream.read() == b"content"


def test_a_missing_package_is_refused_with_what_installs_it():
    message = (
        r"^toys: expected the package some-toys, which has its images, and it cannot be imported \(No module named "
        r"'some_toys'\); pip install some-toys, or pip install 'buttress\[demo\]'$"
    )
    with pytest.raises(DataError, match=message), open_packaged_file("toys", "some_toys", "data/a.txt", **PIP):
        pass


def test_a_missing_file_is_named(package: Path):
    message = "^toys: the installed some-toys has no file data/b.txt; expected it at .*; pip install --force-reinstall"
    with pytest.raises(DataError, match=message), open_packaged_file("toys", "some_toys", "data/b.txt", **PIP):
        pass


@pytest.mark.parametrize("read", [gzip.GzipFile.read, Image.open])
def test_a_damaged_file_is_named(package: Path, read: object):
    with (
        pytest.raises(DataError, match=r"^toys: .*a\.txt cannot be read: .*; pip install --force-reinstall some-toys$"),
        open_packaged_file("toys", "some_toys", "data/a.txt", **PIP) as stream,
    ):
        Image.open(stream) if read is Image.open else gzip.GzipFile(fileobj=stream).read()
