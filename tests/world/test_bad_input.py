"""Bad input to several ranks: one message, from one rank, exit code 2, and nothing written."""

from pathlib import Path

import pytest
import torch

from buttress.cli import main
from buttress.console.output import notice
from buttress.engine.joining import Launch
from buttress.engine.world import World
from buttress.errors import ConfigError, RunFolderError
from buttress.training.ranks import expect_shared

from .forked import ForkedRanks
from .ranks import Ranks
from .small_runs import write_config


def only_error(folder: Path, size: int, *by_rank: list[str]) -> str:
    """The one message of ``buttress train``, each rank with overrides of its own."""
    words = ["train", str(write_config(folder)), "--runs", str(folder / "runs")]
    ended = ForkedRanks(lambda rank: [*words, *by_rank[min(rank, len(by_rank) - 1)]], size, folder / "said").end()
    assert ended.codes == [2] * size, ended.texts
    assert not (folder / "runs").exists()
    (error,) = ended.errors
    return error


def test_a_batch_of_fewer_examples_than_processes(tmp_path: Path):
    error = only_error(tmp_path, 3, ["data.batch_size=2"])
    assert "data.batch_size" in error
    assert "expected at least 3, an example for each process that shares a batch, got 2" in error


def test_other_configs_on_other_ranks(tmp_path: Path):
    error = only_error(tmp_path, 2, [], ["optimizer.lr=0.2"])
    assert "rank 1 has another config: optimizer than rank 0" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said_once(tmp_path: Path):
    assert "device" in only_error(tmp_path, 2, ["device=cuda"])


def of_one_rank(world: World, folder: Path) -> str:
    """The message about a folder that the main rank alone sees."""
    with pytest.raises(RunFolderError) as caught:
        expect_shared(world, folder if world.is_main else folder / "missing")
    return str(caught.value)


def test_a_run_folder_that_some_ranks_do_not_see(ranks: Ranks, tmp_path: Path):
    blind = ", ".join(map(str, range(1, ranks.size)))
    for message in ranks.call(of_one_rank, tmp_path):
        assert f"is not seen by rank {blind} of {ranks.size}" in message


@pytest.mark.parametrize("given", [{"RANK": "2"}, {"RANK": "-1"}, {"RANK": "x"}, {"WORLD_SIZE": "two"}])
def test_wrong_variables_of_a_launcher(given: dict[str, str]):
    with pytest.raises(ConfigError, match=r"expected a (rank from 0 to 1|number >= 0)"):
        Launch.of({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", **given})


@pytest.mark.parametrize(
    ("count", "variables", "message"),
    [
        ("0", {}, "expected a number >= 1"),
        ("2", {"RANK": "1", "WORLD_SIZE": "2"}, "torchrun or srun has started this process"),
        ("2", {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "torchrun or srun has started this process"),
    ],
)
def test_processes_that_cannot_be_started(
    count: str,
    variables: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["train", str(write_config(tmp_path)), "--processes", count]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "speaks"),
    [
        ({}, True),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, True),
    ],
)
def test_notices_come_from_one_rank(
    variables: dict[str, str], speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    notice("importing torch ...")
    assert bool(capsys.readouterr().err) == speaks


@pytest.mark.parametrize("words", ["reproduce runs/a/b", "bench configs/demo.yaml"])
def test_a_verb_of_one_process_refuses_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, message in ((0, f"error: {words.split()[0]}: works in one process, got 2"), (1, "")):
        monkeypatch.setenv("RANK", str(rank))
        assert main(words.split()) == 2
        assert capsys.readouterr().err.strip().startswith(message)
