"""Every built-in plugin, rolled back while it runs, trains on as if it had never gone further."""

from pathlib import Path
from unittest.mock import patch

import pytest

from buttress.training.collapse import Collapse, CollapseGuard
from tests.plugins.catalogue import CATALOGUE

from .resume_points import fingerprint, stack_on_disk
from .small import small_config, start

# What a roll-back leaves on purpose: its count and its line in the metrics.
OWN = {"state rollbacks", "state metrics_bytes", "state metrics_sha256", "metrics.jsonl", "summary.json"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_plugin_that_was_rolled_back_equals_the_run_that_never_fell(tmp_path: Path, name: str):
    file = small_config(tmp_path, stack_on_disk(name), guards={"collapse": "roll_back", "lr_factor": 1.0})
    with patch.object(CollapseGuard, "look", return_value=None):
        start(file, tmp_path / "whole")
    fall = Collapse(epoch=4, healthy_epoch=2, robust=0.3, best=0.9, chance=0.3, training_attack=None)
    with patch.object(CollapseGuard, "look", side_effect=[None, fall, None]):  # at the ends of epochs 1, 3, and 3 again
        said = start(file, tmp_path / "fell").said
    assert any("rolled back to step-00000008 (1 of at most 3 times)" in line for line in said)
    whole, fell = fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "fell")
    assert whole.keys() == fell.keys()
    assert {key for key in whole if whole[key] != fell[key]} == OWN
