"""Two ranks killed; ``make torture`` kills twenty."""

import random
from pathlib import Path

from .killed_ranks import kill_ranks


def test_two_killed_ranks_lose_nothing(tmp_path: Path):
    tally = kill_ranks(tmp_path, random.Random(0), 2)
    assert tally.kills == 2
    assert tally.lost == []
    assert tally.finished_runs > 0
