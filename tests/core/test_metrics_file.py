"""The metrics of a run: appended, counted, and cut back to what a checkpoint knows."""

import json
from pathlib import Path

import pytest

from buttress.errors import StorageError
from buttress.storage.files import file_sha256
from buttress.training.metrics_file import MetricsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").touch()
    return tmp_path / "metrics.jsonl"


def written(path: Path, numbers: range) -> MetricsFile:
    metrics = MetricsFile(path)
    for number in numbers:
        metrics.write({"number": number})
    return metrics


def test_records_are_lines_and_size_and_sha256_are_those_of_the_file(path: Path):
    metrics = written(path, range(3))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"number": n} for n in range(3)]
    assert (metrics.size, metrics.sha256) == (path.stat().st_size, file_sha256(path))


def resumed(path: Path, size: int, sha256: str) -> tuple[MetricsFile, list[str]]:
    metrics, said = MetricsFile(path), list[str]()
    metrics.expect(size, sha256)
    metrics.cut(said.append)
    return metrics, said


def test_records_after_the_checkpoint_are_cut_off_in_silence_and_the_next_follow(path: Path):
    before = written(path, range(3))
    size, sha256 = before.size, before.sha256
    before.write({"number": 99})
    metrics, said = resumed(path, size, sha256)
    assert said == []
    metrics.write({"number": 3})
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert (metrics.size, metrics.sha256) == (path.stat().st_size, file_sha256(path))


def test_a_lost_end_is_said_and_half_a_record_removed(path: Path):
    before = written(path, range(3))
    path.write_bytes(path.read_bytes()[:-4])
    metrics, said = resumed(path, before.size, before.sha256)
    assert len(said) == 1
    assert "has lost its end: 38 of 42 bytes are left" in said[0]
    assert (metrics.size, metrics.sha256) == (28, file_sha256(path))


def test_a_changed_byte_is_said_unless_the_checkpoint_did_not_know_the_sha256(path: Path):
    before = written(path, range(3))
    path.write_bytes(path.read_bytes().replace(b"1", b"7"))
    assert "is damaged: its sha256 is not the recorded one" in resumed(path, before.size, before.sha256)[1][0]
    assert resumed(path, before.size, "")[1] == []


def test_metrics_whose_folder_has_gone_are_an_error(path: Path):
    metrics = written(path, range(1))
    path.unlink()
    path.parent.rmdir()
    for call in (lambda: metrics.write({}), metrics.sync, lambda: metrics.cut(print)):
        with pytest.raises(StorageError, match="No such file or directory"):
            call()
