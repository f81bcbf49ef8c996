"""``buttress compare`` in processes that torchrun or srun has started: they share the runs, and one of them speaks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest
import yaml

from buttress.cli import main
from buttress.comparing.jobs import Job
from buttress.comparing.partners import Partners, process_alone
from buttress.engine.joining import Launch
from buttress.processes import python_environment
from buttress.storage.holders import Holder
from buttress.storage.leases import holder_of

from ..here import Done

Said = pytest.CaptureFixture[str]
WORDS = ["compare", "one.yaml", "other.yaml", "--seeds", "1"]

# A model that trains for a moment and then raises.
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        self.forwards = 0
    def forward(self, x):
        self.forwards += 1
        if self.forwards > 10:
            raise RuntimeError("the disk caught fire")
        return self.layers(x)
"""


@pytest.fixture
def two(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with one.yaml and other.yaml, of one epoch."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("one", "other"):
        write_config(workspace, name)
    return workspace


def write_config(workspace: Path, name: str, **settings: object) -> None:
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    evaluation = {"every": 1, "attack": {"pgd": {"steps": 1}}}
    config |= {"name": name, "plugins": [{"pgd": {"steps": 1}}], "epochs": 1, "evaluation": evaluation, **settings}
    (workspace / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a comparison are made in this process, one after the other; the pool does not know."""
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, size: int = 2) -> None:
    """Give this process the variables of one that torchrun has started."""
    for name, value in (("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))


def started(rank: int, *words: str) -> subprocess.Popen[str]:
    """A process of two, as torchrun would start it."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "none"}
    return subprocess.Popen(
        [sys.executable, "-m", "buttress", *WORDS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    )


def test_two_processes_make_the_table_of_one_once(here: None, two: Path):
    ranks = [started(rank, "--name", "shared") for rank in (1, 0)]
    (quiet, own), (out, err) = (rank.communicate(timeout=240) for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], (own, err)
    assert (quiet, own) == ("", "")
    assert out.count("Compared:") == 1
    assert main(WORDS) == 0
    tables = [json.loads((two / "runs" / name / "comparison.json").read_text()) for name in ("shared", "compare")]
    assert tables[0]["rows"] == tables[1]["rows"]
    assert len(tables[0]["rows"]) == 2


def holder_at_last(lease: Path) -> Holder:
    """The holder of a lease, as soon as there is one."""
    for _ in range(2400):
        if (holder := holder_of(lease)) is not None:
            return holder
        sleep(0.05)
    raise AssertionError(f"nobody has come to {lease}")


def test_a_rank_that_is_killed_keeps_nobody_waiting_and_its_run_is_named(two: Path):
    write_config(two, "other", epochs=100_000)
    first, second = (started(rank) for rank in (0, 1))
    run = holder_at_last(two / "runs" / "compare" / "logs" / "other-s0.lease")
    second.kill()
    os.kill(run.pid, signal.SIGKILL)
    second.communicate()
    out, err = first.communicate(timeout=240)
    assert first.returncode == 1
    assert "failed: other, seed 0: its process has gone without a word" in out
    assert "error: 1 run failed; the table has the others" in err
    (row,) = json.loads((two / "runs" / "compare" / "comparison.json").read_text())["rows"]
    assert row["method"] == "one"


def test_ranks_that_do_not_come_are_named(here: None, two: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_TIMEOUT", "0.1")
    launched(monkeypatch, 1)
    assert main(WORDS) == 1
    said = capfd.readouterr()
    assert "error: rank 1: rank 0 has not come to runs/compare within 0 s" in said.err
    assert not said.out
    launched(monkeypatch, 0)
    assert main(WORDS) == 1
    said = capfd.readouterr()
    assert "failed: other, seed 0: rank 1, whose run it is, has not come" in said.out
    assert os.environ["RANK"] == "0"


def test_a_rank_whose_run_failed_names_it_to_rank_0_and_ends_after_it(
    here: None, two: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch
):
    (two / "net.py").write_text(NET)
    write_config(two, "other", model={"target": "net:Net"})
    waited: list[bool] = []
    monkeypatch.setattr("buttress.comparing.partners.Partners.wait_for_first", lambda _: waited.append(True))
    folder = two / "runs" / "compare"
    jobs = [Job(name, 0, str(folder / f"{name}-s0"), "", ()) for name in ("one", "other")]
    first = Partners(Launch(0, 2), folder)
    with first.met(print):
        launched(monkeypatch, 1)
        assert main(WORDS) == 1
        assert waited == [True]
        assert not capfd.readouterr().out
        ((run, reason),) = first.failures_of_others(jobs, print).items()
    assert run == ("other", 0)
    assert "the disk caught fire" in reason


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS, "--only", "1/2"], "--only '1/2': the 2 processes that torchrun or srun has started share the runs"),
        ([*WORDS, "--launcher", "submitit"], "--launcher submitit: the 2 processes that torchrun or srun has started"),
        (["search", "one.yaml", "optimizer.lr=0.1:1"], "search: a search is one process, and torchrun or srun has"),
        ([*WORDS, "nothing=1"], "nothing"),
    ],
)
def test_wrong_input_is_one_error_from_rank_0(
    words: list[str], message: str, two: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
):
    for rank, count in ((0, 1), (1, 0)):
        launched(monkeypatch, rank)
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.err.count("error: ") == count
        assert (message in said.err) == (rank == 0)
        assert not said.out
    assert not (two / "runs").exists()


@pytest.mark.parametrize(
    ("visible", "local_rank", "gpu"), [(None, 1, "1"), ("4,5", 1, "5"), ("4,5", 2, "4"), ("7", 1, "7")]
)
def test_the_runs_of_a_rank_train_alone_on_its_gpu(
    visible: str | None, local_rank: int, gpu: str, monkeypatch: pytest.MonkeyPatch
):
    count = 2 if visible is None else len(visible.split(","))
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.setenv(name, "3")
    assert "RANK" not in python_environment()
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    before = dict(os.environ)
    with process_alone(Launch(3, 4, local_rank)):
        inside = python_environment()
        assert Launch.of() == Launch()
    assert dict(os.environ) == before
    assert inside["CUDA_VISIBLE_DEVICES"] == gpu
    assert inside["SLURM_JOB_ID"] == "12"
    assert not {name for name in inside if name.startswith(("MASTER_", "TORCHELASTIC_"))}
    assert Launch.of(inside) == Launch()
