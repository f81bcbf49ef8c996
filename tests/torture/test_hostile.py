"""A few edits of the files that numbers are quoted from; ``make torture`` tries every file with every command."""

import random
from pathlib import Path

from .hostile import torment


def test_edited_results_are_refused_left_out_or_harmless(tmp_path: Path):
    tally = torment(tmp_path, random.Random(0), 1, lambda command: command in ("resume", "audit", "compare"))
    assert tally.mutations > 10
    assert tally.refused > 3
    assert tally.lost == []
