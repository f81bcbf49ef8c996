"""Pipes, sockets, devices and folders in the place of files: refused at once, whoever reads."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buttress.components.plugins_file import read_plugins_file
from buttress.config.yaml_source import read_yaml
from buttress.errors import ButtressError, RunFolderError
from buttress.storage.reading import file_sha256, read_facts, read_json, read_tensors
from buttress.storage.regular_file import expect_regular_file, open_regular_file, read_regular_file
from buttress.storage.run_folder import RunFolder
from buttress.storage.tensor_file import open_tensor_files
from buttress.storage.weights_file import holds_weights, read_weight_sets
from buttress.training.existing import existing_folder
from buttress.training.records import read_metrics
from buttress_plugins.data.npz import Npz


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / request.param
    with socket.socket(socket.AF_UNIX) as listener:
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            before = Path.cwd()
            os.chdir(tmp_path)  # the whole path may be too long for a socket
            listener.bind(path.name)
            os.chdir(before)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        yield path


def _tensor_files(path: Path) -> None:
    with open_tensor_files([path]):
        pass


def _metrics(path: Path) -> None:
    folder = RunFolder(path.parent / "run")
    folder.metrics = path
    read_metrics(folder)


READERS: dict[str, Callable[[Path], object]] = {
    "config": read_yaml,
    "file of plugins": read_plugins_file,
    "json": read_json,
    "tensors": read_tensors,
    "facts": read_facts,
    "many tensors": _tensor_files,
    "weights": read_weight_sets,
    "kind of weights": holds_weights,
    "metrics": _metrics,
    "data": lambda path: Npz(path=str(path)).load(0),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_regular_file(odd: Path, reader: str):
    with pytest.raises(ButtressError, match=r"expected a regular file, it is a |Is a directory"):
        READERS[reader](odd)


@pytest.mark.parametrize("opens", [expect_regular_file, open_regular_file, read_regular_file, file_sha256])
def test_the_error_is_one_of_the_system_and_says_what_it_is(odd: Path, opens: Callable[[Path], object]):
    with pytest.raises(OSError, match=rf"it is a {odd.name}|Is a directory"):
        opens(odd)


def test_no_more_is_read_than_was_asked_for(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular_file(path) == read_regular_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="expected at most 4 bytes, it has more"):
        read_regular_file(path, 4)


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "checkpoints/step-00000001.json"])
def test_a_run_folder_with_a_pipe_in_it_is_refused_before_anything_is_written(tmp_path: Path, name: str):
    folder = RunFolder(tmp_path / "run")
    folder.create("name: x\n", {})
    path = folder.path / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(RunFolderError, match=rf"{name}: expected a regular file, it is a pipe; remove it"):
        existing_folder(folder.path)
