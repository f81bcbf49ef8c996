"""A few hundred damages of every kind of file; ``make torture`` tries thousands."""

import random
from pathlib import Path

import pytest

from .damage import Tally, doors, finished_run, flip, resume_damaged, truncate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("damage"))


def test_every_flipped_bit_is_noticed(run: Path):
    tally = Tally()
    flip(doors(run), random.Random(0), 300, tally)
    assert tally.flips == 300
    assert tally.lost == []


def test_every_truncation_is_noticed(run: Path):
    tally = Tally()
    truncate(doors(run), 101, tally)
    assert tally.truncations > 300
    assert tally.lost == []


def test_a_run_with_a_damaged_file_is_refused_or_ends_the_same(run: Path):
    tally = Tally()
    resume_damaged(run, random.Random(0), 20, tally)
    assert tally.resumes == 20
    assert tally.lost == []


def test_every_kind_of_file_of_a_run_has_a_door(run: Path):
    unread = {path for path in run.rglob("*") if path.is_file()} - {door.path for door in doors(run)}
    unread.remove(run / "log.txt")  # text for people, which no command reads
    assert {path.parent.suffix for path in unread} <= {".weights"}  # second names of weights
