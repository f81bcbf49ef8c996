"""The main verbs as a user runs them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from buttress.cli import main
from buttress.config.file import ConfigFile
from buttress.data import Data
from buttress.engine.world import World
from buttress.storage import run_folder
from buttress.storage.seals import read_sealed
from buttress.training import assembly as build
from buttress.training.assembly import Assembly

from .conftest import Run


def test_a_run_leaves_everything_that_it_promises(buttress: Run, workspace: Path):
    done = buttress("train", "small.yaml", "--run", "a")
    assert done.returncode == 0, done.stderr
    run = workspace / "runs" / "small" / "a"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "checkpoints", "config.yaml", "curves.png", "history", "log.txt", "manifest.json", "metrics.jsonl",
        "summary.json", "weights",
    }  # fmt: skip
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (run / "weights").iterdir()} == {
        f"{which}-{track}.safetensors" for which in ("best", "last") for track in ("live", "meat", "ema", "swa")
    }
    assert "n = 20, float32, seed 3, one run; best epoch chosen on validation" in done.stdout
    assert "cost: each step: 3 forwards, 2 backwards to the input, 1 to the weights" in done.stdout
    assert "cross_entropy" in done.stdout  # the default loss is said
    assert len(list((run / "checkpoints").glob("*.json"))) == 2  # keep: 2
    assert done.stdout == (run / "log.txt").read_text()


def saved_step(run: Path) -> int:
    """The step of the newest checkpoint; that of step 0 is written when a run begins."""
    return max(int(path.stem.partition("-")[2]) for path in (run / "checkpoints").glob("*.json"))


def test_epochs_that_never_come_are_noted(buttress: Run):
    done = buttress("train", "small.yaml", "--dry-run", "epochs=2", "meat.start=60")
    assert done.returncode == 0, done.stderr
    assert "note: meat.start is 60, after 60 epochs, which never comes: the run has 2\n" in done.stdout
    assert "ema.start" not in done.stdout


def test_summary_agrees_with_the_metrics(buttress: Run, workspace: Path):
    assert buttress("train", "small.yaml", "--run", "a").returncode == 0
    run = workspace / "runs" / "small" / "a"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if record["event"] == "evaluation"]
    summary = json.loads((run / "summary.json").read_text())
    assert [row["track"] for row in summary["tracks"]] == ["live", "meat", "ema", "swa"]
    for row in summary["tracks"]:
        own = [e for e in evaluations if e["track"] == row["track"]]
        validation = {e["epoch"]: e["robust"] for e in own if e["split"] == "validation"}
        test = {e["epoch"]: e for e in own if e["split"] == "test"}
        assert set(test) == {2, 4}  # as the lines on the terminal count: epoch 2/4, epoch 4/4
        best = max(validation, key=lambda epoch: (validation[epoch], -epoch))
        assert row["best_epoch"] == best
        assert row["robust_best"] == test[best]["robust"]
        assert row["robust_last"] == test[4]["robust"]


def test_the_same_config_gives_the_same_run_in_another_process(buttress: Run, apart: Run, workspace: Path):
    assert buttress("train", "small.yaml", "--run", "a").returncode == 0
    assert apart("train", "small.yaml", "--run", "b").returncode == 0
    one, two = (workspace / "runs" / "small" / name for name in ("a", "b"))
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    last = "weights/last-meat.safetensors"
    assert (one / last).read_bytes() == (two / last).read_bytes()


def test_resolved_config_starts_the_same_run_again(buttress: Run, workspace: Path):
    assert buttress("train", "small.yaml", "pgd.steps=1", "--run", "a", "epochs=2").returncode == 0
    run = workspace / "runs" / "small" / "a"
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["plugins"][0]["pgd"]["steps"] == 1
    assert resolved["plugins"][1]["meat"]["median"] == "lower"
    assert resolved["threat"]["eps"] == "8/255"
    assert buttress("train", str(run / "config.yaml"), "--run", "b").returncode == 0
    assert (run / "metrics.jsonl").read_bytes() == (run.parent / "b" / "metrics.jsonl").read_bytes()


def test_examples_that_are_not_moved_are_said_once(workspace: Path, capsys: pytest.CaptureFixture[str]):
    for eps, times in (("0", 1), ("1/255", 0)):
        assert main(["train", "small.yaml", "--dry-run", f"threat.eps={eps}"]) == 0
        assert capsys.readouterr().out.count("note: threat.eps is 0: adversarial examples equal the clean") == times


def test_dry_run_writes_nothing(buttress: Run, workspace: Path):
    before = sorted(workspace.rglob("*"))
    done = buttress("train", "small.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "dry run: everything is in order; nothing was written" in done.stdout
    assert "hooks: " in done.stdout
    assert "ensemble_weights: meat, ema, swa" in done.stdout
    assert sorted(workspace.rglob("*")) == before


def test_a_last_batch_that_training_drops_is_dropped_by_the_reestimation_too(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    (workspace / "flat_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))\n"
    )
    words = [
        "data.batch_size=13",
        "data.drop_last=true",
        "data.path=odd.npz",
        'model={target: "flat_net:Net"}',
        "epochs=1",
    ]
    with np.load(workspace / "small.npz") as file:
        cut = {name: file[name][: 27 if name.endswith("train") else 20] for name in file.files}
    np.savez(workspace / "odd.npz", **cut)  # 27 = 13 + 13 + 1, and BatchNorm1d takes no batch of one
    assert main(["train", "small.yaml", "--run", "a", *words]) == 0
    capsys.readouterr()
    assert main(["train", "small.yaml", "--run", "b", *words, "data.drop_last=false"]) == 2
    assert "leave a batch of one example" in capsys.readouterr().err


def test_one_training_example_is_enough_to_look_at_the_model(workspace: Path):
    with np.load(workspace / "small.npz") as file:
        one = {name: file[name][: 1 if name.endswith("train") else 20] for name in file.files}
    np.savez(workspace / "one.npz", **one)
    assert main(["train", "small.yaml", "--dry-run", "data.path=one.npz", "data.num_classes=4"]) == 0


def test_manifest_names_plugins_versions_order_and_seed(buttress: Run, workspace: Path):
    assert buttress("train", "small.yaml", "--run", "a", "epochs=1").returncode == 0
    manifest = json.loads((workspace / "runs" / "small" / "a" / "manifest.json").read_text())
    assert manifest["plugins"]["pgd"]["distribution"] == "buttress"
    assert manifest["plugins"]["pgd"]["version"] == manifest["buttress"]
    assert manifest["hooks"]["ensemble_weights"] == ["meat", "ema", "swa"]
    assert manifest["seed"] == 3
    assert manifest["data"]["splits"] == {"train": 40, "validation": 20, "test": 20}
    assert manifest["packages"]["torch"].startswith("2.")


def test_evaluate_measures_and_keeps_the_result(buttress: Run, workspace: Path):
    assert buttress("train", "small.yaml", "--run", "a").returncode == 0
    done = buttress("evaluate", "runs/small/a", "--track", "meat", "--checkpoint", "last", "--each", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["attack"] for row in result["attacks"]] == ["clean", "fgsm", "pgd-2"]
    assert all(row["n"] == 20 and row["low"] <= row["accuracy"] <= row["high"] for row in result["attacks"])
    assert read_sealed(Path(workspace, result["file"])) == result
    # the weights of the track, batch norm included, give the number that the run reported
    summary = json.loads((workspace / "runs" / "small" / "a" / "summary.json").read_text())
    reported = next(row for row in summary["tracks"] if row["track"] == "meat")
    assert result["attacks"][2]["accuracy"] == reported["robust_last"]
    assert result["attacks"][0]["accuracy"] == reported["clean_last"]
    stronger = buttress("evaluate", "runs/small/a", "--attack", "pgd-7", "--attack", "pgd: {steps: 3, restarts: 2}")
    assert stronger.returncode == 0, stronger.stderr
    assert "pgd-7" in stronger.stdout
    assert "95 % interval" in stronger.stdout


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "waited for 90 seconds"
        time.sleep(0.02)


def test_ctrl_c_stops_cleanly_and_the_run_resumes(workspace: Path):
    words = ["train", "small.yaml", "--run", "a", "epochs=20000", "evaluation.every=20000", "checkpoint.every=20000"]
    command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", *words]
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = workspace / "runs" / "small" / "a" / "metrics.jsonl"
    wait_until(metrics.exists)
    wait_until(lambda: metrics.stat().st_size > 0)  # it trains
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopping after this step or evaluation; Ctrl-C once more stops at once" in said
    assert "stopped by SIGINT" in said
    assert "buttress resume runs/small/a" in said
    assert saved_step(metrics.parent) > 0
    again = subprocess.Popen(
        [*command[:3], "resume", "runs/small/a"],
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    before = metrics.stat().st_size
    wait_until(lambda: metrics.stat().st_size > before)  # it trains again
    again.send_signal(signal.SIGTERM)
    out, said = again.communicate(timeout=60)
    assert "resumed step-" in out
    assert "stopped by SIGTERM" in said


def trains(workspace: Path, *before: str, **options: Any) -> tuple[subprocess.Popen[str], Path]:
    """A long run that has begun to train, and its folder; ``before``: words before the command."""
    words = ["train", "small.yaml", "--run", "a", "epochs=20000", "evaluation.every=20000", "checkpoint.every=20000"]
    command = [*before, sys.executable, "-m", "buttress", *words]
    process = subprocess.Popen(command, cwd=workspace, text=True, **options)
    run = workspace / "runs" / "small" / "a"
    wait_until((run / "metrics.jsonl").exists)
    wait_until(lambda: (run / "metrics.jsonl").stat().st_size > 0)
    return process, run


def test_a_closed_terminal_saves_the_run(workspace: Path):
    terminal, other_end = pty.openpty()
    process, run = trains(workspace, stdout=other_end, stderr=other_end, stdin=other_end, start_new_session=True)
    os.close(other_end)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)  # the shell's, beside the kernel's
    assert process.wait(timeout=60) == 1
    assert saved_step(run) > 0


LEFT_IN_THE_BUFFER = """
import sys
from buttress.cli import main

sys.stdout.write("left in the buffer")
sys.modules["buttress.cli.main"].exit_code_of = lambda call: 1
raise SystemExit(main(["config", "schema"]))
"""


def test_the_exit_code_outlives_a_reader_that_has_gone():
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run([sys.executable, "-c", LEFT_IN_THE_BUFFER], stdout=writer, env=environment, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 1  # Python's own is 120, of what it cannot write at its end


def test_nohup_keeps_a_run_alive_and_a_scheduler_stops_it(workspace: Path):
    process, run = trains(workspace, "nohup", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGHUP)
    before = (run / "metrics.jsonl").stat().st_size
    wait_until(lambda: (run / "metrics.jsonl").stat().st_size > before + 500)  # it trains on
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by SIGUSR1" in said
    assert saved_step(run) > 0


def test_a_terminal_gets_a_progress_bar_with_eta(workspace: Path):
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())"]
    process = subprocess.Popen(
        [*command, "train", "small.yaml", "epochs=2", "evaluation.attack={pgd: {steps: 100}}", "--run", "a"],
        cwd=workspace, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the terminal closes with the process
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert b"importing torch" in shown
    assert b"evaluating live" in shown
    assert b"loss " in shown
    assert b" left" in shown
    assert b"100%" in shown


class Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Noon":
        return cls(2026, 1, 1, 12, tzinfo=tz)


def test_runs_that_are_started_in_one_second_count_up(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_folder, "datetime", Noon)
    for _ in range(2):
        assert main(["train", "small.yaml", "epochs=1"]) == 0

    def assemble(
        file: ConfigFile, data: Data, settings: dict[str, Any], history: Path, world: World | None = None
    ) -> Assembly:
        """Another run takes the name between the plan and the folder."""
        other = history.parent
        if other.name == "20260101-120000-3":
            other.mkdir()
        return build.assemble(file, data, settings, history, world)

    monkeypatch.setattr("buttress.training.launch.assemble", assemble)
    assert main(["reproduce", "runs/small/20260101-120000"]) == 0
    names = ["20260101-120000", "20260101-120000-2", "20260101-120000-3", "20260101-120000-4"]
    folder = workspace / "runs" / "small"
    assert sorted(path.name for path in folder.iterdir()) == names
    assert list((folder / names[2]).iterdir()) == []  # not ours
    assert (folder / names[3] / "reproduction.json").is_file()
