"""``buttress evaluate`` on several processes and as independent jobs, as a user gives it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from buttress.cli import main
from buttress.scoring.keeper import Keeper

WORDS = [
    "--attack",
    "fgsm: {step_size: 1/30}",
    "--attack",
    "pgd-5",
    "--examples",
    "95",
    "evaluation.batch_size=20",
]  # five batches


CONFIG = {
    "name": "digits",
    "data": {"name": "digits", "train_per_class": 40, "validation": 397, "batch_size": 80},
    "model": {"name": "preact_tiny"},
    "threat": {"norm": "linf", "eps": "1/15"},
    "plugins": ["fgsm"],
    "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.9},
    "epochs": 8,
    "evaluation": {"every": 8, "attack": "fgsm"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main(["train", str(folder / "config.yaml"), "--runs", str(folder), "--run", "a"]) == 0
    return folder / "digits" / "a"


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of it of one's own."""
    monkeypatch.chdir(tmp_path)
    return str(shutil.copytree(finished, "a"))


def said_by(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["evaluate", *words]) == code
    said = capsys.readouterr()
    return said.out, said.err


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(said_by(capsys, *words, "--json")[0])
    return result


def expect_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two results are equal but for time and place, verdict by verdict."""
    varying = {"seconds", "file", "samples", "samples_sha256", "command", "hardware"}
    for result in (one, two):
        assert all(row["seconds"] >= 0 for row in result["attacks"])

    def fixed(value: Any) -> Any:
        if isinstance(value, list):
            return [fixed(each) for each in value]
        return {k: fixed(v) for k, v in value.items() if k not in varying} if isinstance(value, dict) else value

    assert fixed(one) == fixed(two)
    with np.load(one["samples"]) as first, np.load(two["samples"]) as second:
        assert set(first.files) == set(second.files)
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


def files(run: str, suffix: str) -> list[Path]:
    return sorted(Path(run, "eval").glob(f"*{suffix}"))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_jobs_of_shards_come_to_the_result_of_one_process(count: int, run: str, capsys: pytest.CaptureFixture[str]):
    whole = evaluated(capsys, run, *WORDS, "--output", "whole")
    assert all(0 < row["wrong"] < row["attacked"] for row in whole["attacks"]), whole["attacks"]
    own = [f"{index}/{count}" for index in range(1, count + 1)]
    last = own.pop(min(count, 5) - 1)
    for number, shard in enumerate(own, 1):
        out, _ = said_by(capsys, run, *WORDS, "--shard", shard)
        (line,) = out.replace("\n", " ").splitlines()
        done = "has no batch" if int(shard.split("/")[0]) > 5 else "is done"
        assert line.startswith(f"shard {shard} {done}; "), line
        assert f"of 5 batches are missing in {run}/eval so far (shard" in line, line
        assert "the same command goes on, with any number of processes" in line
        assert not files(run, ".json")
        assert len(files(run, "unfinished-*.npz")) == min(number, 4)
    assert not files(run, ".lock")[1:]  # the lock of those who look whether all is done
    result = evaluated(capsys, run, *WORDS, "--shard", last)
    expect_same(result, whole)
    assert [path.suffix for path in sorted(Path(run, "eval").iterdir())] == [".json", ".npz"]


def test_a_shard_s_json_says_what_is_missing_and_later_the_result(run: str, capsys: pytest.CaptureFixture[str]):
    state = evaluated(capsys, run, *WORDS, "--shard", "2/3")
    assert state == {
        "shard": "2/3",
        "folder": f"{run}/eval",
        "batches": 5,
        "missing": [0, 2, 3],
        "file": None,
    }
    evaluated(capsys, run, *WORDS, "--shard", "1/3")
    result = evaluated(capsys, run, *WORDS, "--shard", "3/3")
    assert Path(result["file"]).is_file()
    assert evaluated(capsys, run, *WORDS, "--shard", "2/3") == result


def test_a_job_that_comes_after_the_end_begins_nothing(run: str, capsys: pytest.CaptureFixture[str]):
    result = evaluated(capsys, run, *WORDS)
    out, _ = said_by(capsys, run, *WORDS, "--shard", "1/2")
    assert out.replace("\n", " ").strip() == f"evaluated already: {result['file']}; delete it to evaluate again"
    said_by(capsys, run, *WORDS, "evaluation.seed=1", "--shard", "1/2")  # other work
    assert len(files(run, ".json")) == 1
    assert len(files(run, "1of2.npz")) == 1
    Path(result["samples"]).write_bytes(b"no verdicts")
    assert "shard 1/2 is done; " in said_by(capsys, run, *WORDS, "--shard", "1/2")[0]


def test_one_process_goes_on_where_shards_have_stopped(run: str, capsys: pytest.CaptureFixture[str]):
    whole = evaluated(capsys, run, *WORDS, "--output", "whole")
    said_by(capsys, run, *WORDS, "--shard", "1/2")
    said_by(capsys, run, *WORDS, "--shard", "3/4")
    out, err = said_by(capsys, run, *WORDS, "--json")
    assert "note: of 5 batches 3 are done already, 0 in part and 2 not at all: 6 of 15 rounds are missing" in err
    expect_same(json.loads(out), whole)
    assert not files(run, "of2.npz")


def test_a_job_that_was_killed_costs_its_shard_only(run: str, capsys: pytest.CaptureFixture[str]):
    words = [run, "--attack", "pgd-100", "--attack", "cw-100", "--examples", "44", "evaluation.batch_size=4"]
    program = "from buttress.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", program, "evaluate", *words, "--shard", "1/2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120

    def done() -> int:
        for path in files(run, "1of2.npz"):
            with np.load(path) as file:
                return int(file["done"].sum())
        return 0

    while done() < 8:  # clean: six batches
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert main(["evaluate", *words, "--shard", "1/2"]) == 2
    assert f"{run}/eval: a process is at work on shard 1/2 of this evaluation; wait for it" in capsys.readouterr().err
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    before = done()
    assert before >= 8
    assert " of 11 batches are missing" in said_by(capsys, *words, "--shard", "2/2")[0].replace("\n", " ")
    assert done() == before
    for shard in ("1/3", "2/3"):
        said_by(capsys, *words, "--shard", shard)
    result = evaluated(capsys, *words, "--shard", "3/3")
    assert not files(run, ".lock")
    expect_same(result, evaluated(capsys, *words))


def test_a_damaged_file_of_a_shard_is_one_error_and_what_others_did_is_kept(
    run: str, capsys: pytest.CaptureFixture[str]
):
    whole = evaluated(capsys, run, *WORDS, "--output", "whole")
    for shard in ("1/3", "3/3"):
        said_by(capsys, run, *WORDS, "--shard", shard)
    (damaged,) = files(run, "3of3.npz")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    for more in ([], ["--shard", "2/3"], ["--shard", "3/3"]):
        err = said_by(capsys, run, *WORDS, *more, code=2)[1]
        assert f"error: {damaged} is damaged" in err
        assert "delete it, and give the same command again: what it held is done anew" in err
    damaged.unlink()
    said_by(capsys, run, *WORDS, "--shard", "2/3")
    expect_same(evaluated(capsys, run, *WORDS, "--shard", "3/3"), whole)


def test_machines_that_share_no_folder_say_what_is_missing_and_their_files_can_be_joined(
    run: str, capsys: pytest.CaptureFixture[str]
):
    whole = evaluated(capsys, run, *WORDS, "--output", "whole")
    there = str(shutil.copytree(run, Path("elsewhere") / "b").absolute())  # another machine has the run at another path
    assert evaluated(capsys, run, *WORDS, "--shard", "1/2")["missing"] == [1, 3]
    assert evaluated(capsys, there, *WORDS, "--shard", "2/2")["missing"] == [0, 2, 4]
    (unfinished,) = files(there, "2of2.npz")
    shutil.copy(unfinished, Path(run, "eval"))
    out, err = said_by(capsys, run, *WORDS, "--shard", "2/2", "--json")
    assert "note: of 5 batches 5 are done already" in err
    expect_same(json.loads(out), whole)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "x", "1", "1/0", "-1/3", "1/3/5", ""])
def test_a_shard_that_is_none_is_one_error(shard: str, run: str, capsys: pytest.CaptureFixture[str]):
    out, err = said_by(capsys, run, *WORDS, "--shard", shard, code=2)
    assert err.count("error: ") == 1
    assert f"error: --shard {shard!r}: expected a part and the number of parts, like 1/2 and 2/2" in err
    assert not out
    assert not Path(run, "eval").exists()


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, launcher: str = "torchrun") -> None:
    """Give this process the variables of one that a launcher has started."""
    names = {"torchrun": ("RANK", "WORLD_SIZE"), "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")}[launcher]
    for name, value in zip(names, (rank, size), strict=True):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("started", ["torchrun", "--processes"])
def test_two_processes_give_the_result_of_one_once(started: str, run: str, capsys: pytest.CaptureFixture[str]):
    whole = evaluated(capsys, run, *WORDS, "--output", "whole")
    command = [sys.executable, "-m", "buttress", "evaluate", run, *WORDS, "--json", "--processes", "2"]
    if started == "torchrun":
        command[2:3] = ["torch.distributed.run", "--nproc-per-node", "2", "-m", "buttress"]
        del command[-2:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    expect_same(json.loads(done.stdout), whole)
    assert done.stderr.count("loading data and weights") == 1  # rank 0 alone shows progress
    lines = [line for line in done.stderr.splitlines() if "buttress: shard" in line]
    assert len(lines) <= 1  # none, where both end at once: then one result, and no word of batches that are missing
    assert all("is done; " in line for line in lines)
    assert [path.suffix for path in sorted(Path(run, "eval").iterdir())] == [".json", ".npz"]


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_each_rank_takes_its_shard_and_the_one_that_completes_it_prints(
    launcher: str, run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for rank, missing in ((1, "3 of 5 batches are missing in a/eval so far (shards 1/3, 3/3)"), (2, "2 of 5 batches")):
        launched(monkeypatch, rank, 3, launcher)
        out, err = said_by(capsys, run, *WORDS, "--json")
        assert not out
        assert err.startswith(f"buttress: shard {rank + 1}/3 is done; {missing}")
        assert err.count("\n") == 1
    launched(monkeypatch, 0, 3, launcher)
    out, err = said_by(capsys, run, *WORDS, "--json")
    file = json.loads(out)["file"]
    assert "loading data and weights ..." in err
    assert "note: of 5 batches 3 are done already" in err
    assert said_by(capsys, run, *WORDS, "--json")[0] == out  # the same command again
    out, err = said_by(capsys, run, *WORDS)
    assert f"written to {file}" in out
    assert f"buttress: evaluated already: {file}; delete it to evaluate again" in err
    launched(monkeypatch, 2, 3, launcher)
    assert said_by(capsys, run, *WORDS) == ("", "")


def test_an_evaluation_that_another_rank_has_completed_meanwhile_is_named(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The first rank is still at work on what one process alone has done in the meantime."""
    from buttress.evaluation import assess

    attack_all, results = assess.attack_all, []

    def slow(*arguments: Any, keeper: Keeper, **options: Any) -> Any:
        verdicts = attack_all(*arguments, keeper=keeper, **options)
        if keeper.shard.count > 1:
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("RANK")
                results.append(evaluated(capsys, run, *WORDS))
        return verdicts

    monkeypatch.setattr(assess, "attack_all", slow)
    launched(monkeypatch, 0, 2)
    out, err = said_by(capsys, run, *WORDS)
    assert not out
    assert f"shard 1/2 is done; another process has completed the evaluation: {results[0]['file']}" in err
    assert [path.suffix for path in sorted(Path(run, "eval").iterdir())] == [".json", ".npz"]


def test_a_shard_for_one_of_several_processes_is_refused_by_the_first(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    launched(monkeypatch, 0, 2)
    err = said_by(capsys, run, *WORDS, "--shard", "1/2", code=2)[1]
    assert err.startswith("error: --shard '1/2': the 2 processes that torchrun or srun has started take a shard each")
    assert err.count("\n") == 1
    launched(monkeypatch, 1, 2)
    assert said_by(capsys, run, *WORDS, "--shard", "1/2", code=2) == ("", "")
    assert said_by(capsys, run, "--attack", "pdg", code=2)[1].startswith("error: rank 1: unknown attack 'pdg'")
    assert not Path(run, "eval").exists()
    monkeypatch.delenv("RANK")
    err = said_by(capsys, run, *WORDS, "--shard", "1/2", "--processes", "2", code=2)[1]
    assert err.startswith("error: --shard '1/2': --processes 2 gives each process its shard; leave one out")
