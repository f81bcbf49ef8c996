"""The place of a process among those that torchrun or srun has started."""

import pytest

from buttress.engine.joining import Launch, meeting_point
from buttress.errors import ConfigError


def test_a_process_that_nobody_launched_is_one():
    assert Launch.of({}) == Launch(0, 1, 0)
    # a job of Slurm, and a step of one task: submitit and an interactive shell
    assert Launch.of({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}).size == 1
    assert Launch.of({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).size == 1


def test_torchrun_gives_ranks():
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert Launch.of(environment) == Launch(5, 8, 1)
    within = {**environment, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}  # one torchrun a machine, by srun
    assert Launch.of(within) == Launch(5, 8, 1)


def test_srun_gives_ranks():
    environment = {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NODELIST": "node7",
        "SLURM_JOB_ID": "12",
        "SLURM_STEP_ID": "3",
    }
    launch = Launch.of(environment)
    assert (launch.rank, launch.size, launch.local_rank) == (5, 8, 1)
    assert launch.by_srun
    assert meeting_point(environment) == ("node7", 20_000 + 31 * 12 + 3)
    # several machines: Slurm is asked for their names by those alone that meet
    assert Launch.of({**environment, "SLURM_STEP_NODELIST": "node[7-9]"}) == launch


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "8", "WORLD_SIZE": "8"}, "expected a rank from 0 to 7, got 8; start with torchrun or srun"),
        ({"RANK": "x", "WORLD_SIZE": "8"}, "environment variable RANK: expected a number >= 0, got 'x'"),
        ({"RANK": "0", "WORLD_SIZE": "-1"}, "environment variable WORLD_SIZE: expected a number >= 0, got '-1'"),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "environment variable SLURM_STEP_NUM_TASKS: expected a number"),
    ],
)
def test_variables_that_are_no_place_are_one_error(environment: dict[str, str], message: str):
    with pytest.raises(ConfigError, match=message):
        Launch.of(environment)
