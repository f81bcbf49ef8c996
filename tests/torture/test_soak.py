"""A few hundred steps leave no open file and no tensor behind."""

import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pytest

from buttress.training.checkpoint import save_checkpoint
from buttress.training.selection import Record

from .soak import PER_RECORD, Samples, grown, soak


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_open_files_and_live_tensors_do_not_grow(tmp_path: Path, nonfinite: str):
    samples = soak(tmp_path, 240, every=40, nonfinite=nonfinite)
    assert len(samples.steps) == 6
    assert samples.records == 3 * 3 * 2  # evaluations, tracks (the live one too), splits
    assert grown(samples) == []


def test_growth_would_be_seen():
    steps = list(range(0, 1000, 100))
    leak = Samples(steps, [1000 + 0.5 * step for step in steps], list(range(10)), [7] * 10)
    assert grown(leak) == ["open files grew from 4 to 9"]
    assert leak.slope() == pytest.approx(500)
    assert leak.slope() > leak.allowed()


def test_a_record_takes_what_is_allowed_for_it(tmp_path: Path):
    def peak(count: int) -> int:
        tracemalloc.start()
        records = [Record(number, "live", "test", number / 7, number / 9, 100) for number in range(count)]
        save_checkpoint(tmp_path, count, {"records": [asdict(record) for record in records]}, keep=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    each = (peak(2000) - peak(1000)) / 1000 / 1024
    assert 0.5 * PER_RECORD < each < PER_RECORD
