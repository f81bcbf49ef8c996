"""A few processes killed while they save; ``make torture`` kills two hundred."""

import random
from pathlib import Path

from .kills import kill_runs


def test_ten_kills_lose_nothing(tmp_path: Path):
    found = kill_runs(tmp_path, random.Random(0), 10)
    assert found.kills == 10
    assert found.lost == []
    assert found.finished_runs > 0
