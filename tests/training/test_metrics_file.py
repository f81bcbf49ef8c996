"""The metrics of a run: appended, counted, and cut back to what a checkpoint knows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from buttress.errors import StorageError
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.training.metrics_file import MetricsFile
from buttress.training.records import read_metrics


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


EVALUATIONS = [
    {"epoch": epoch, "track": "live", "split": "test", "clean": 0.5, "robust": 0.25, "n": 8} for epoch in (1, 2)
]


def resumed(path: Path, size: int, sha256: str) -> tuple[MetricsFile, list[str], bool]:
    metrics, said = MetricsFile(path), list[str]()
    metrics.expect(size, sha256)
    return metrics, said, metrics.put_back(EVALUATIONS, said.append)


def test_records_after_the_checkpoint_are_cut_off_in_silence_and_the_next_follow(path: Path):
    before = written(path, range(3))
    size, sha256 = before.size, before.sha256
    before.write({"number": 99})
    metrics, said, anew = resumed(path, size, sha256)
    assert (said, anew) == ([], False)
    metrics.write({"event": "other", "number": 3})
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert (metrics.size, metrics.sha256) == (path.stat().st_size, file_sha256(path))


def lost_end(content: bytes) -> bytes:
    return content[:-4]


def changed_byte(content: bytes) -> bytes:
    return content.replace(b"1", b"7")


def one_blank_more(content: bytes) -> bytes:
    """The checkpoint's size is now in the middle of a line."""
    return content.replace(b":", b": ", 1)


SAYS = {
    lost_end: "has lost its end: 38 of 42 bytes are left",
    changed_byte: "is damaged: its sha256 is not the recorded one",
    one_blank_more: "is damaged: its sha256 is not the recorded one",
}


@pytest.mark.parametrize("damage", SAYS)
def test_a_damaged_file_is_set_aside_and_its_evaluations_written_anew(path: Path, damage: Callable[[bytes], bytes]):
    before = written(path, range(3))
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    metrics, (said,), anew = resumed(path, before.size, before.sha256)
    assert anew
    assert SAYS[damage] in said
    assert "what is left of it is kept as metrics.damaged.jsonl, and its evaluations are written anew" in said
    assert path.with_name("metrics.damaged.jsonl").read_bytes() == damaged
    metrics.write({"event": "other", "number": 3})
    assert read_metrics(RunFolder(path.parent)).records == [
        {"event": "rewritten", "damaged": "metrics.damaged.jsonl"},
        *({"event": "evaluation", **record} for record in EVALUATIONS),
        {"event": "other", "number": 3},
    ]
    assert (metrics.size, metrics.sha256) == (path.stat().st_size, file_sha256(path))


def test_a_second_damage_takes_a_second_name_and_a_second_try_does_not(path: Path):
    before = written(path, range(3))
    path.write_bytes(b"one")
    path.with_name("metrics.damaged.jsonl").write_bytes(b"one")  # killed when it had come so far
    resumed(path, before.size, before.sha256)
    path.write_bytes(b"two")
    resumed(path, before.size, before.sha256)
    aside = {each.name: each.read_bytes() for each in path.parent.glob("metrics.damaged*")}
    assert aside == {"metrics.damaged.jsonl": b"one", "metrics.damaged-2.jsonl": b"two"}


def test_a_file_that_is_gone_is_written_anew(path: Path):
    before = written(path, range(3))
    path.unlink()
    _, (said,), anew = resumed(path, before.size, before.sha256)
    assert anew
    assert "0 of 42 bytes are left; its evaluations are written anew" in said
    assert read_metrics(RunFolder(path.parent)).records[0] == {"event": "rewritten", "damaged": None}


def test_where_the_checkpoint_did_not_know_the_sha256_it_ends_with_a_record(path: Path):
    before = written(path, range(3))
    path.write_bytes(path.read_bytes().replace(b"1", b"7"))
    assert resumed(path, before.size, "")[1:] == ([], False)
    assert "no record ends at its byte 41" in resumed(path, before.size - 1, "")[1][0]


def test_metrics_whose_folder_has_gone_are_an_error(path: Path):
    metrics = written(path, range(1))
    path.unlink()
    path.parent.rmdir()
    for call in (lambda: metrics.write({}), metrics.sync, lambda: metrics.put_back([], print)):
        with pytest.raises(StorageError, match="No such file or directory"):
            call()
