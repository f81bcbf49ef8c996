"""``buttress compare`` through launchers: the same table, wherever the runs are carried out."""

import json
from pathlib import Path
from typing import Any

import pytest

from buttress.cli import main

from ..here import Done


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the executor debug leaves its logs open
def test_every_launcher_leads_to_one_table(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for module in ("local", "supervisor"):  # the runs are made in this process
        monkeypatch.setattr(f"buttress.launching.{module}.start_apart", Done)
    words = ["compare", "small.yaml", "epochs=2", "plugins=[{pgd: {steps: 1}}, swa]", "--seeds", "2"]
    debug = ["--launcher", "submitit", "--launcher-option", "executor=debug", "requeues=3", "--name", "queued"]
    assert main([*words, "--name", "here"]) == 0
    assert main([*words, *debug]) == 0
    assert "1 at once, jobs of submitit's executor debug" in " ".join(capsys.readouterr().out.split())
    tables: list[dict[str, Any]] = [
        json.loads((workspace / "runs" / name / "comparison.json").read_text()) for name in ("here", "queued")
    ]
    assert tables[0]["rows"] == tables[1]["rows"]
    assert len(tables[0]["rows"]) == 2
    assert main(["compare", "--status", "--name", "queued"]) == 0
    assert "2 runs: 2 done, 0 running, 0 failed, 0 waiting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launcher", "slrum"], "--launcher: unknown launcher 'slrum'"),
        (["--launcher-option", "partition=gpu"], "launcher 'local' has no setting 'partition'; known: threads"),
        (
            ["--launcher", "submitit", "--launcher-option", "executor=local", "epochs=2"],
            "settings of runs stand before",
        ),
        (["--status", "--name", "none"], "runs/none is no comparison: it has no plan.json"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_written(
    words: list[str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["compare", "small.yaml", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (workspace / "runs").exists()
