"""The state of every run of a comparison, from what lies in its folder."""

import json
import os
import time
from pathlib import Path

import pytest

from buttress.cli import main
from buttress.comparing.plan_file import Member, Plan, write_plan
from buttress.comparing.status import status_of, status_text
from buttress.comparing.sweep import Variant
from buttress.errors import RunFolderError
from buttress.storage.leases import leased

EVALUATION = {"attack": {"pgd": {"steps": 2}}, "best_by": "validation", "seed": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of one variant at six seeds, of which nothing has begun."""
    variant = Variant("at", Path("at.yaml"), ("k=1",), ("k=1",))
    folder = tmp_path / "runs" / "paper"
    (folder / "logs").mkdir(parents=True)
    write_plan(folder, Plan((Member(variant, "0" * 64, EVALUATION, tuple(range(6))),)))
    return folder


def test_runs_are_done_running_failed_and_waiting(folder: Path, capsys: pytest.CaptureFixture[str]):
    runs, logs = [f"at-k-1-s{seed}" for seed in range(6)], folder / "logs"
    (folder / runs[0]).mkdir()
    (folder / runs[0] / "summary.json").write_text("{}")
    (logs / f"{runs[1]}.error.json").write_text(json.dumps({"error": "the disk\ncaught fire"}))
    (logs / f"{runs[1]}.log").touch()
    (logs / f"{runs[2]}.job").write_text("81_2")
    far = {"host": "node7", "pid": 12, "job": "81_3", "since": "2026-01-01T00:00:00+00:00", "machine": "far"}
    (logs / f"{runs[3]}.lease.4").write_text(json.dumps({**far, "doing": "epoch 3/12, loss 1.250", "share": 0.25}))
    (logs / f"{runs[4]}.lease.1").write_text(json.dumps(far))
    os.utime(logs / f"{runs[4]}.lease.1", (time.time() - 1000,) * 2)
    released = {**far, "doing": "epoch 2/12, loss 1.5", "share": 0.125, "released": True}
    (logs / f"{runs[5]}.lease.7").write_text(json.dumps(released))  # it was asked to stop
    before = sorted((path.name, path.stat().st_mtime_ns) for path in logs.iterdir())
    rows = status_of(folder.parent, "paper")
    assert [row.state for row in rows] == ["done", "failed", "waiting", "running", "failed", "waiting"]
    assert rows[1].error == "the disk caught fire"
    assert (rows[2].job, rows[3].job, rows[3].host, rows[3].share) == ("81_2", "81_3", "node7", 0.25)
    assert rows[4].error == "its process has gone without a word"
    text = status_text(rows)
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 80
    whole = " ".join(text.split())
    assert whole.startswith("6 runs: 1 done, 1 running, 2 failed, 2 waiting")
    assert "epoch 3/12, 25 %" in whole
    assert "5 waiting epoch 2/12, 12 %" in whole
    assert f"see{logs / runs[1]}.log" in "".join(text.split())
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in logs.iterdir())  # it reads only
    with leased(logs / f"{runs[1]}.lease"):  # it is tried once more
        assert status_of(folder.parent, "paper")[1].state == "running"
    words = ["compare", "--status", "--runs", str(folder.parent), "--name", "paper"]
    assert main(words) == 0
    assert "1 done, 1 running" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == list(range(6))


def test_a_comparison_that_is_not_there_is_named_with_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(RunFolderError, match=r"papre is no comparison: it has no plan\.json; did you mean 'paper'\?"):
        status_of(folder.parent, "papre")
    assert main(["compare", "a.yaml", "--json"]) == 2
    assert "--json: expected --status beside it" in capsys.readouterr().err
