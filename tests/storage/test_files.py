"""Files are whole or not there at all, and states come back as they were."""

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress.errors import CheckpointError, StorageError
from buttress.storage.files import link_file, remove_leftovers, write_json, write_tensors, write_text, write_with
from buttress.storage.reading import file_sha256, has_sha256, read_json, read_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.tensor(7, dtype=torch.int64)}
WRITERS: dict[str, Callable[[Path], str]] = {
    "tensors": lambda path: write_tensors(path, {"x": torch.ones(1000)}),
    "json": lambda path: write_json(path, {"x": [1] * 1000}),
    "text": lambda path: write_text(path, "x" * 4000),
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


# Writing


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027, 0o002, 0o000], ids=oct)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_has_the_permissions_that_the_umask_leaves_it(tmp_path: Path, writer: str, umask: int):
    before = os.umask(umask)
    try:
        for _ in range(2):  # the second one takes the place of the first
            WRITERS[writer](tmp_path / "file")
            assert oct((tmp_path / "file").stat().st_mode & 0o777) == oct(0o666 & ~umask)
    finally:
        os.umask(before)


@pytest.mark.parametrize("writer", WRITERS)
def test_the_returned_sha256_is_that_of_the_file_and_no_temporary_file_stays(tmp_path: Path, writer: str):
    path = tmp_path / "file"
    digest = WRITERS[writer](path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, moment: str
):
    path = tmp_path / "file"
    path.write_text("old")

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*(("os.fsync", crash) if moment == "fsync" else (Path, "replace", crash)))
    with pytest.raises(KeyboardInterrupt):
        WRITERS[writer](path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_content_is_synced_before_it_gets_its_name_and_the_folder_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
):
    calls = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Any:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    WRITERS[writer](tmp_path / "file")
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EIO, "check the folder and its permissions"),
    ],
)
def test_what_the_disk_refuses_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, code: int, cure: str
):
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(StorageError, match=rf"cannot write {path}: {os.strerror(code)}; what was saved.*{cure}"):
        WRITERS[writer](path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.fixture
def small_disk() -> Any:
    """Files of at most 10,000 bytes, as when the disk fills up in the middle of a write."""
    found = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, found)


def test_a_write_that_breaks_off_in_the_middle_leaves_the_old_file(tmp_path: Path, small_disk: None):
    path = tmp_path / "file"
    write_tensors(path, {"x": torch.ones(100)})
    old = path.read_bytes()
    with pytest.raises(StorageError, match="cannot write"):
        write_tensors(path, {"x": torch.ones(100_000)})
    with pytest.raises(StorageError, match="cannot write"):
        write_text(path, "x" * 100_000)
    assert path.read_bytes() == old
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="check the folder and its permissions"):
        write_text(tmp_path / "missing" / "file", "x")


def test_write_with_puts_any_file_in_place(tmp_path: Path):
    digest = write_with(tmp_path / "file.bin", lambda temporary: temporary.write_bytes(b"abc"))
    assert digest == hashlib.sha256(b"abc").hexdigest()
    assert (tmp_path / "file.bin").read_bytes() == b"abc"


def test_a_killed_writer_never_leaves_half_a_file(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from buttress.storage.files import write_with\n"
        "def half(temporary):\n    temporary.write_text('half'); os._exit(9)\n"
        "write_with(Path(sys.argv[1]), half)"
    )
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    assert path.read_text() == "old"


# Tensors


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_of_every_dtype_come_back(tmp_path: Path, dtype: torch.dtype):
    tensors = {
        "full": torch.ones(2, 3).to(dtype),
        "scalar": torch.ones(()).to(dtype),
        "empty": torch.ones(0, 4).to(dtype),
    }
    digest = write_tensors(tmp_path / "t", tensors)
    assert_equal(read_tensors(tmp_path / "t", digest), tensors)


def test_nan_and_infinity_come_back_bit_for_bit(tmp_path: Path):
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-45])
    write_tensors(tmp_path / "t", {"x": values})
    found = read_tensors(tmp_path / "t")["x"]
    assert found.numpy().tobytes() == values.numpy().tobytes()


def test_tensors_that_share_memory_are_written_as_copies(tmp_path: Path):
    base = torch.arange(12.0)
    tensors = {"base": base, "same": base, "part": base[3:7], "turned": base.view(3, 4).T, "every other": base[::2]}
    write_tensors(tmp_path / "t", tensors)
    assert_equal(read_tensors(tmp_path / "t"), {name: value.clone() for name, value in tensors.items()})


def test_parameters_are_written_without_their_graph(tmp_path: Path):
    layer = torch.nn.Linear(2, 2)
    write_tensors(tmp_path / "t", dict(layer.named_parameters()))
    assert torch.equal(read_tensors(tmp_path / "t")["weight"], layer.weight)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, -1])
def test_a_truncated_file_is_named(tmp_path: Path, cut: int):
    path = tmp_path / "t"
    digest = write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=rf"{path} cannot be read: .*truncated or no safetensors"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match=rf"{path} is damaged: its sha256 is not the recorded one"):
        read_tensors(path, digest)


def test_one_flipped_bit_is_found_by_the_sha256(tmp_path: Path):
    path = tmp_path / "t"
    digest = write_tensors(path, TENSORS)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="its sha256 is not the recorded one"):
        read_tensors(path, digest)


def test_missing_files_are_named(tmp_path: Path):
    path = tmp_path / "nothing"
    for read in (read_tensors, read_json, lambda p: read_tensors(p, "0" * 64)):
        with pytest.raises(CheckpointError, match=rf"{path} does not exist"):
            read(path)


def test_broken_json_is_named(tmp_path: Path):
    for content in (b'{"a": 1', b"\xff\xfe", b""):
        (tmp_path / "j").write_bytes(content)
        with pytest.raises(CheckpointError, match="j cannot be read"):
            read_json(tmp_path / "j")


# Leftovers and second names


@pytest.mark.parametrize("writer", ["tensors"])
def test_what_a_killed_writer_leaves_is_removed_and_nothing_else(tmp_path: Path, writer: str):
    (tmp_path / "sub").mkdir()
    kept = [tmp_path / ".hidden", tmp_path / "sub" / "a.tmp", tmp_path / ".a.tmp.json", tmp_path / "sub" / "own.json"]
    for path in kept:
        path.write_text("mine")
    child = (
        "import os, signal, sys; from pathlib import Path; from tests.storage.test_files import WRITERS\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "WRITERS[sys.argv[1]](Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", child, writer, tmp_path / "sub" / "file.json"], cwd=root, check=False)
    (left,) = set(tmp_path.rglob("*")) - {*kept, tmp_path / "sub"}
    assert remove_leftovers(tmp_path) == [left]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_what_the_safetensors_library_leaves_when_it_is_killed_is_removed_too(tmp_path: Path):
    (tmp_path / ".tmp2tmbAa").write_bytes(b"half")
    assert remove_leftovers(tmp_path) == [tmp_path / ".tmp2tmbAa"]
    assert names(tmp_path) == []


def test_a_second_name_keeps_the_content_that_a_later_write_replaces(tmp_path: Path):
    write_text(tmp_path / "best", "old")
    for _ in range(2):
        link_file(tmp_path / "best", tmp_path / "kept")
    write_text(tmp_path / "best", "new")
    assert (tmp_path / "kept").read_text() == "old"
    link_file(tmp_path / "best", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "new"
    assert names(tmp_path) == ["best", "kept"]


def test_without_hard_links_the_second_name_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    write_text(tmp_path / "best", "old")
    link_file(tmp_path / "best", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "old"
    assert not (tmp_path / "kept").samefile(tmp_path / "best")


def test_a_second_name_of_nothing_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="No such file"):
        link_file(tmp_path / "best", tmp_path / "kept")
    assert names(tmp_path) == []


def test_a_file_has_its_own_sha256_and_no_other(tmp_path: Path):
    digest = write_text(tmp_path / "file", "x")
    assert has_sha256(tmp_path / "file", digest)
    assert not has_sha256(tmp_path / "file", digest[::-1])
    assert not has_sha256(tmp_path / "missing", digest)
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        has_sha256(tmp_path, digest)
