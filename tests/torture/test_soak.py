"""A few hundred steps leave no open file and no tensor behind."""

from pathlib import Path

import pytest

from .soak import Samples, grown, soak


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_open_files_and_live_tensors_do_not_grow(tmp_path: Path, nonfinite: str):
    samples = soak(tmp_path, 240, every=40, nonfinite=nonfinite)
    assert len(samples.steps) == 6
    assert grown(samples) == []


def test_growth_would_be_seen():
    steps = list(range(0, 1000, 100))
    leak = Samples(steps, [1000 + 0.5 * step for step in steps], list(range(10)), [7] * 10)
    assert grown(leak) == ["open files grew from 4 to 9"]
    assert leak.slope() == pytest.approx(500)
