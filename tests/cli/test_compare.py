"""``buttress compare`` as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.cli import main
from buttress.config.file import load_config
from buttress.processes import Apart, start_apart
from buttress.storage.leases import leased
from buttress.storage.run_folder import RunFolder
from buttress.training.records import read_metrics

from ..here import Done

Said = pytest.CaptureFixture[str]

# A model that behaves for its first forwards, and then does what the config says.
NET = """
import os
from torch import nn

class Net(nn.Module):
    def __init__(self, end="raise"):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        self.end, self.forwards = end, 0
    def forward(self, x):
        self.forwards += 1
        if self.forwards > 20 and self.end == "raise":
            raise RuntimeError("the disk | caught fire")
        if self.forwards > 20:
            os.kill(os.getpid(), 9)
        return self.layers(x)
"""
MARGIN = "pgd: {steps: 2, loss: margin}"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a comparison are made in this process, one after the other; the pool does not know."""
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)


@pytest.fixture
def two(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with one.yaml (PGD and MEAT) and other.yaml (PGD and RWP)."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    for name, plugin in (("one", {"meat": {"start": 1}}), ("other", {"rwp": {"k2": 1}})):
        changed = {**config, "name": name, "plugins": [{"pgd": {"steps": 2}}, plugin]}
        (workspace / f"{name}.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    return workspace


def result(workspace: Path, name: str = "compare") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / "runs" / name / "comparison.json").read_text())
    return found


def test_a_comparison_has_a_row_for_every_track_of_every_variant(here: None, two: Path, capfd: Said):
    words = ["compare", "one.yaml", "other.yaml", "rwp.c_min=inf", "epochs=2", "--seeds", "2,5", "--jobs", "2"]
    assert main([*words, "--attack", MARGIN]) == 0
    said = capfd.readouterr().out
    found = result(two)
    assert [(row["method"], row["track"]) for row in found["rows"]] == [
        ("one", "live"),
        ("one", "meat"),
        ("other", "live"),
    ]
    assert found["attacks"] == ["pgd-2", "pgd-2-margin"]
    assert set(found["baselines"].values()) == {"one"}
    assert all(set(row["seeds"]) == {"2", "5"} and row["n"] == 20 for row in found["rows"])
    assert found["packages"]["torch"]
    assert found["hardware"]["cpus"]
    folder = two / "runs" / "compare"
    runs = [f"{name}-s{seed}" for name in ("one", "other") for seed in (2, 5)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["logs", "plan.json", "comparison.json", "comparison.md", "comparison.png", "differences.png", *runs]
    )
    for picture in ("comparison.png", "differences.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert re.search(r"\| one +\| meat +\|", (folder / "comparison.md").read_text())
    assert "4 runs, 0 done before; 2 at once, OMP_NUM_THREADS=1 each" in said
    assert "[4/4]" in said

    # the numbers are those of the runs, and the runs those of their configs
    config = load_config(folder / "other-s5" / "config.yaml").config
    assert (config.seed, config.epochs, config.plugins[1]["rwp"]["c_min"]) == (5, 2, "inf")
    summary = json.loads((folder / "one-s5" / "summary.json").read_text())
    assert found["rows"][1]["seeds"]["5"]["pgd-2 last"] == summary["tracks"][1]["robust_last"]
    scores = json.loads((folder / "one-s5" / "compare.json").read_text())
    assert found["rows"][1]["seeds"]["5"]["pgd-2-margin best"] == scores[MARGIN]["meat"]["best"]

    assert found["rows"][0]["seeds"]["5"]["validation"] == max(
        record["robust"]
        for record in read_metrics(RunFolder(folder / "one-s5")).records
        if (record["event"], record.get("track"), record.get("split")) == ("evaluation", "live", "validation")
    )
    assert max(map(len, said.split("Without an attack:")[1].splitlines()[:30])) <= 80

    # the same again trains nothing; a shorter command keeps what is there, and adds one more attack to its own run
    before = (folder / "other-s2" / "metrics.jsonl").stat().st_mtime_ns
    assert main([*words, "--attack", MARGIN]) == 0
    assert "at once" not in capfd.readouterr().out
    assert result(two)["rows"] == found["rows"]
    shorter = ["compare", "other.yaml", "rwp.c_min=inf", "epochs=2", "seed=5", "--attack", "fgsm"]
    assert main(shorter) == 0
    after = result(two)
    assert after["attacks"] == ["pgd-2", "pgd-2-margin", "fgsm"]
    assert [(row["method"], row["track"]) for row in after["rows"]] == [
        (row["method"], row["track"]) for row in found["rows"]
    ]
    assert after["rows"][:2] == found["rows"][:2]
    assert set(after["baselines"].values()) == {"one"}
    for seed, measures in found["rows"][2]["seeds"].items():
        assert measures.items() <= after["rows"][2]["seeds"][seed].items()
    assert "fgsm last" in after["rows"][2]["seeds"]["5"]
    assert "fgsm last" not in after["rows"][2]["seeds"]["2"]
    assert (folder / "other-s2" / "metrics.jsonl").stat().st_mtime_ns == before
    # what the attack is called in other words is that attack
    assert main([*shorter[:-1], "fgsm: {start: none}"]) == 0
    assert result(two)["attacks"] == after["attacks"]

    # what is there is another experiment than what is asked for now
    capfd.readouterr()
    assert main(["compare", "one.yaml", "epochs=3", "pgd.steps=1", "--seeds", "2,5"]) == 2
    said = capfd.readouterr().err
    assert (
        "one-s2 holds a run of another config: plugins.pgd.steps is 2 there and 1 here; epochs is 2 there and 3" in said
    )
    # a damaged plan is refused with the cure
    plan = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(plan.replace("other", "otter", 1))
    assert main(shorter) == 2
    assert "plan.json is damaged" in (said := capfd.readouterr().err)
    assert "delete it: the runs stay" in said
    (folder / "plan.json").write_text(plan)
    # a run under the name of another one is noticed; one that was moved away leaves the table
    (folder / "one-s5").rename(folder / "one-s9")
    assert main(["compare", "one.yaml", "epochs=2", "seed=9"]) == 2
    assert "one-s9 holds a run of another config: seed is 5 there and 9 here" in capfd.readouterr().err
    assert main(shorter) == 0
    assert [list(row["seeds"]) for row in result(two)["rows"]] == [["2"], ["2"], ["2", "5"]]
    shutil.copytree(folder / "other-s5", folder / "one-s5")
    assert main(shorter) == 0
    assert "one-s5 holds another run than one, seed 5" in " ".join(capfd.readouterr().out.split())
    assert [list(row["seeds"]) for row in result(two)["rows"]] == [["2"], ["2"], ["2", "5"]]
    # the comparison itself may be renamed, and moved: it goes on under its new name, nothing is trained again
    rows, trained = result(two)["rows"], (folder / "one-s2" / "summary.json").stat().st_mtime_ns
    (two / "elsewhere").mkdir()
    folder.rename(two / "elsewhere" / "paper")
    assert main([*shorter, "--name", "paper", "--runs", "elsewhere"]) == 0
    assert json.loads((two / "elsewhere" / "paper" / "comparison.json").read_text())["rows"] == rows
    assert (two / "elsewhere" / "paper" / "one-s2" / "summary.json").stat().st_mtime_ns == trained


def test_settings_that_mean_one_config_are_one_run(here: None, two: Path, capfd: Said):
    assert main(["compare", "other.yaml", "epochs=1", "rwp.c_min=1,1.0", "--seeds", "1"]) == 2
    assert "'other rwp.c_min=1' and 'other rwp.c_min=1.0' are the same config; leave one" in capfd.readouterr().err
    assert main(["compare", "other.yaml", "epochs=1", "rwp.c_min=1,2", "--seeds", "1"]) == 0
    first = result(two)
    assert main(["compare", "other.yaml", "epochs=1", "rwp.c_min=1.0,3", "seed=0"]) == 0
    found = result(two)
    assert [row["method"] for row in found["rows"]] == [f"other rwp.c_min={value}" for value in (1, 2, 3)]
    for row, before in zip(found["rows"], first["rows"], strict=False):
        assert row["seeds"] == before["seeds"]
    assert sum(row["chosen"] for row in found["rows"]) == 1
    assert not (two / "runs" / "compare" / "other-rwp.c_min-1.0-s0").exists()


def test_several_machines_share_the_runs_by_parts_and_leave_each_other_s_alone(here: None, two: Path, capfd: Said):
    words = ["compare", "one.yaml", "other.yaml", "epochs=1", "--seeds", "2", "--name", "shared"]
    assert main([*words, "--only", "2/3"]) == 0
    assert [(row["method"], list(row["seeds"])) for row in result(two, "shared")["rows"]] == [
        ("one", ["1"]), ("one", ["1"])
    ]  # fmt: skip
    folder = two / "runs" / "shared"
    with leased(folder / "logs" / "other-s0.lease"):  # a process elsewhere is at work on this run
        capfd.readouterr()
        assert main(words) == 0
        said = capfd.readouterr().out
    assert "other, seed 0: another process is at work on it" in said
    found = result(two, "shared")
    assert found["unfinished"] == [{"method": "other", "seed": 0}]
    assert "Not finished yet, and not in the numbers: other, seed 0." in " ".join(said.split())
    assert not (folder / "other-s0").exists()
    assert main([*words, "--only", "3/3"]) == 0  # the third and no other, which is the one that is missing
    whole = result(two, "shared")
    assert whole["unfinished"] == []
    assert [list(row["seeds"]) for row in whole["rows"]] == [["0", "1"]] * 3


def test_a_run_that_fails_is_a_row_and_not_the_end(two: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    def start(function: Apart, orders: Sequence[object], **options: Any) -> Any:
        """The run that kills its process has one of its own."""
        return (start_apart if "end: kill" in str(orders) else Done)(function, orders, **options)

    monkeypatch.setattr("buttress.launching.local.start_apart", start)
    (two / "net.py").write_text(NET)
    config = yaml.safe_load((two / "one.yaml").read_text())
    config |= {"name": "net", "model": {"target": "net:Net"}, "plugins": [{"pgd": {"steps": 2}}]}
    (two / "net.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", "net.yaml", "--seeds", "1"]) == 1
    assert "1 run failed" in capfd.readouterr().err
    assert result(two)["rows"] == []  # the table is there even so
    swept = "model={target: 'net:Net', args: {end: kill}},{target: 'net:Net', args: {end: raise}},{name: preact_tiny}"
    words = ["compare", "net.yaml", swept, "epochs=2", "--seeds", "1", "--name", "again"]
    assert main(words) == 1
    said = capfd.readouterr()
    assert "2 runs failed; the table has the others" in said.err
    found = result(two, "again")
    assert [row["method"] for row in found["rows"]] == ["net model={name: preact_tiny}"]
    killed, raised = found["failed"]
    assert killed["error"] == "ended by SIGKILL (out of memory?)"
    assert "the disk | caught fire" in raised["error"]
    assert r"the disk \| caught fire" in (two / "runs" / "again" / "comparison.md").read_text()
    assert "failed, see runs/again/logs/" in said.out


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(two: Path, capfd: Said, monkeypatch: pytest.MonkeyPatch):
    words = ["compare", "one.yaml", "epochs=60", "evaluation.every=20", "--seeds", "1"]
    command = [sys.executable, "-m", "buttress", *words, "--name", "cut"]
    process = subprocess.Popen(command, cwd=two, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    run = two / "runs" / "cut" / "one-s0"
    deadline = time.monotonic() + 90
    while not ((run / "metrics.jsonl").exists() and '"epoch": 4' in (run / "metrics.jsonl").read_text()):
        assert time.monotonic() < deadline, "waited for 90 seconds"
        time.sleep(0.02)
    assert main([*words, "--name", "cut"]) == 0  # each run one at a time
    assert "one, seed 0: another process is at work on it" in capfd.readouterr().out
    assert result(two, "cut")["rows"] == []
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by SIGINT; what was trained is saved; give the same command again" in said
    assert "everything is saved" in (two / "runs" / "cut" / "logs" / "one-s0.log").read_text()
    assert not (run / "summary.json").exists()
    # a config that is edited meanwhile is another one
    text = (two / "one.yaml").read_text()
    (two / "one.yaml").write_text(text.replace("lr: 0.1", "lr: 0.2"))
    assert main([*words, "--name", "cut"]) == 2
    assert "one-s0 holds a run of another config: optimizer.lr is 0.1 there and 0.2 here" in capfd.readouterr().err
    (two / "one.yaml").write_text(text)
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)
    for name in ("cut", "whole"):
        assert main([*words, "--name", name]) == 0
    assert "resumed step-" in (run / "log.txt").read_text()
    assert result(two, "cut")["rows"] == result(two, "whole")["rows"]


def test_a_folder_that_is_at_work_or_something_else_is_left_alone(two: Path, capfd: Said):
    taken = two / "runs" / "compare" / "one-s0"
    taken.mkdir(parents=True)
    (taken / "thesis.tex").write_text("all of it")
    assert main(["compare", "one.yaml", "--seeds", "1"]) == 2
    assert "one-s0 is no run folder" in capfd.readouterr().err
    assert (taken / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rwp.c_min=1"], "expected at least one CONFIG"),
        (["one.yaml", "rwp.c_min=1,2"], "none of the configs has a key or a plugin 'rwp'"),
        (["one.yaml", "epohcs=2"], "did you mean 'epochs'?"),
        (["one.yaml", "seed=1,1"], "override 'seed=1,1': expected different seeds"),
        (["one.yaml", "seed=1", "--seeds", "2"], "override 'seed=1': seeds are given twice"),
        (["one.yaml", "--only", "3/2"], "--only '3/2': expected a part and the number of parts"),
        (["one.yaml", "pgd.steps=1,many"], "plugins.pgd.steps: expected a valid integer"),
        (["one.yaml", "name.yaml"], "name.yaml:1: name: "),
        (["one.yaml", "--seeds", "0"], "--seeds '0'"),
        (["one.yaml", "--jobs", "0"], "--jobs 0"),
        (["one.yaml", "--attack", "pdg"], "unknown attack 'pdg'; did you mean 'pgd'?"),
        (["one.yaml", "--attack", "pgd-2"], "--attack 'pgd-2': the table has a column 'pgd-2'"),
        (["one.yaml", "--attack", "clean"], "--attack 'clean': the table has a column 'clean'"),
        (["one.yaml", "--baseline", "at"], "--baseline 'at': expected one of one"),
        (["one.yaml", "--name", "../x"], "should match pattern"),
        (["one.yaml", "evaluation.attack=fgsm,pgd"], "their numbers cannot stand in one column"),
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_written(words: list[str], message: str, two: Path, capsys: Said):
    (two / "name.yaml").write_text((two / "one.yaml").read_text().replace("name: one", "name: ../one", 1))
    assert main(["compare", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (two / "runs").exists()
