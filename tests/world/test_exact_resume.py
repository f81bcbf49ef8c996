"""Runs on several ranks, stopped and resumed: the same bytes on as many ranks, the same numbers on any other number."""

from pathlib import Path

import pytest

from buttress.engine.world import World

from .ranks import Ranks
from .runs import difference
from .small_runs import end_of, folder_of, numbers_of, resume, train, write_config


@pytest.mark.parametrize("model", ["ConvNet", "DroppingNet"])
@pytest.mark.parametrize("batch_norm", ["sync", "local"])
def test_a_resume_on_as_many_ranks_equals_the_run_byte_for_byte(
    ranks: Ranks, tmp_path: Path, model: str, batch_norm: str
):
    config = write_config(tmp_path, model, batch_norm)
    ranks.call(train, config, "whole")
    ranks.call(train, config, "stopped", 6)
    ranks.call(resume, config, "stopped")
    assert end_of(folder_of(config, "stopped")) == end_of(folder_of(config, "whole"))


@pytest.mark.parametrize("begins_alone", [True, False])
def test_a_resume_on_another_number_of_ranks_comes_to_the_same_numbers(
    ranks: Ranks, tmp_path: Path, begins_alone: bool
):
    config, alone = write_config(tmp_path), World()
    train(alone, config, "whole")
    if begins_alone:
        train(alone, config, "stopped", 6)
        ranks.call(resume, config, "stopped")
    else:
        ranks.call(train, config, "stopped", 6)
        resume(alone, config, "stopped")
    assert difference(numbers_of(folder_of(config, "stopped")), numbers_of(folder_of(config, "whole"))) < 1e-9


def test_other_shares_for_batch_norm_are_said(ranks: Ranks, tmp_path: Path):
    config = write_config(tmp_path, batch_norm="local")
    train(World(), config, "stopped", 6)
    said = ranks.call(resume, config, "stopped")[0]
    (note,) = [line for line in said if "batch_norm: local" in line]
    assert note == (
        f"note: this run was trained by 1 process and goes on with {ranks.size}: with batch_norm: local its "
        "statistics are those of other shares of a batch from here on"
    )
