"""``buttress compare`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run

BROKEN = """
import torch
from torch import nn

class Net(nn.Module):
    steps = 0
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    def forward(self, x):
        Net.steps += 1
        if Net.steps > 1200:
            raise RuntimeError("the disk caught fire")
        return self.layers(x)
"""


@pytest.fixture
def two(workspace: Path) -> Path:
    """A second config beside small.yaml: with RWP and without ensembles."""
    text = (workspace / "small.yaml").read_text().replace("name: small", "name: other", 1)
    start, end = text.index("- meat"), text.index("optimizer:")
    (workspace / "other.yaml").write_text(text[:start] + "- rwp: {k2: 1}\n" + text[end:])
    return workspace


WORDS = ("compare", "small.yaml", "other.yaml", "rwp.c_min=inf", "epochs=2", "meat.start=0", "--seeds", "2")


def result(workspace: Path, name: str = "compare") -> dict[str, Any]:
    return json.loads((workspace / "runs" / name / "comparison.json").read_text())


def test_a_comparison_has_a_row_for_every_track_of_every_variant(buttress: Run, two: Path):
    done = buttress(*WORDS, "--jobs", "2", "--attack", "pgd: {steps: 2, loss: margin}")
    assert done.returncode == 0, done.stderr
    found = result(two)
    assert [(row["method"], row["track"]) for row in found["rows"]] == [
        ("small", "live"), ("small", "meat"), ("small", "ema"), ("small", "swa"),
        ("other", "live"),
    ]  # fmt: skip
    assert found["attacks"] == ["pgd-2", "pgd-2-margin"]
    assert all(set(row["seeds"]) == {"0", "1"} for row in found["rows"])
    folder = two / "runs" / "compare"
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "| small | meat |" in (folder / "comparison.md").read_text()
    assert "[4/4]" in done.stdout
    summary = json.loads((folder / "small-s1" / "summary.json").read_text())
    assert found["rows"][0]["seeds"]["1"]["pgd-2 last"] == summary["tracks"][0]["robust_last"]

    again = buttress(*WORDS, "--attack", "pgd: {steps: 2, loss: margin}")  # everything is there: nothing is trained
    assert again.returncode == 0
    assert result(two)["rows"] == found["rows"]

    other = buttress(*WORDS[:-3], "epochs=3", "--seeds", "1")
    assert other.returncode == 2
    assert "holds a run of another config" in other.stderr


def test_a_run_that_fails_is_a_row_and_not_the_end(buttress: Run, two: Path):
    (two / "broken_net.py").write_text(BROKEN)
    text = (two / "other.yaml").read_text().replace("- rwp: {k2: 1}\n", "")
    start, end = text.index("model:"), text.index("threat:")
    text = text[:start] + 'model: {target: "broken_net:Net"}\n' + text[end:]
    (two / "other.yaml").write_text(text.replace("epochs: 4", "epochs: 400"))
    done = buttress("compare", "small.yaml", "other.yaml", "--seeds", "1")
    assert done.returncode == 1
    assert "1 runs failed" in done.stderr
    found = result(two)
    assert [row["method"] for row in found["rows"]] == ["small"] * 4
    (failed,) = found["failed"]
    assert (failed["method"], failed["seed"]) == ("other", 0)
    assert "the disk caught fire" in failed["error"]


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(buttress: Run, two: Path):
    words = ["compare", "small.yaml", "epochs=16", "--seeds", "1"]
    assert buttress(*words, "--name", "whole").returncode == 0
    command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", *words, "--name", "cut"]
    process = subprocess.Popen(
        command, cwd=two, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    metrics = two / "runs" / "cut" / "small-s0" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text().count("evaluation") > 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in said
    assert not (two / "runs" / "cut" / "comparison.json").exists()
    done = buttress(*words, "--name", "cut")
    assert done.returncode == 0, done.stderr
    assert result(two, "cut")["rows"] == result(two, "whole")["rows"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rwp.c_min=1"], "expected at least one CONFIG"),
        (["small.yaml", "rwp.c_min=1,2"], "none of the configs has a plugin 'rwp'"),
        (["small.yaml", "pgd.steps=1,many"], "plugins.pgd.steps: expected a valid integer"),
        (["small.yaml", "--seeds", "0"], "--seeds '0'"),
        (["small.yaml", "--jobs", "0"], "--jobs 0"),
        (["small.yaml", "--attack", "pdg"], "unknown attack 'pdg'; did you mean 'pgd'?"),
        (["small.yaml", "--baseline", "at"], "--baseline 'at': expected one of small"),
        (["small.yaml", "--name", "../x"], "should match pattern"),
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_written(
    words: list[str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
):
    from buttress.cli import main

    assert main(["compare", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (workspace / "runs").exists()
