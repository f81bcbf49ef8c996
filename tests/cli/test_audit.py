"""``buttress audit``: a table, a file, and an exit code that says whether a number may be believed."""

import json
from pathlib import Path

import pytest

from buttress.cli import main


def test_an_audit_is_printed_and_kept(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "small.yaml", "--run", "a", "epochs=2"]) == 0
    capsys.readouterr()
    code = main(["audit", "runs/small/a", "--track", "meat", "--checkpoint", "last", "--examples", "10"])
    said = capsys.readouterr()
    rows = json.loads((workspace / "runs/small/a/audit.json").read_text())
    assert {*rows[0]} == {"check", "status", "reason", "cure", "track", "checkpoint", "epoch"}
    assert {(row["track"], row["checkpoint"]) for row in rows} == {("meat", "last")}
    failed = [row["check"] for row in rows if row["status"] == "FAIL"]
    assert code == (1 if failed else 0)
    assert all(f"{row['status']}  {row['check']}" in said.out for row in rows)
    assert ("AutoAttack is strongest", "WARN") in [(row["check"], row["status"]) for row in rows]
    assert all(check in said.err for check in failed)


def test_a_model_that_fails_ends_with_exit_code_1(workspace: Path, capsys: pytest.CaptureFixture[str]):
    (workspace / "soft.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.Softmax(1))\n"
    )
    assert main(["train", "small.yaml", "--run", "a", 'model={target: "soft:Net"}', "epochs=1", "plugins=[clean]"]) == 0
    capsys.readouterr()
    assert main(["audit", "runs/small/a", "--json", "--examples", "10"]) == 1
    said = capsys.readouterr()
    found = {row["check"]: row["status"] for row in json.loads(said.out)}
    assert found["outputs are logits"] == "FAIL"
    assert "buttress: runs/small/a fails: outputs are logits" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/none"], "is no run folder"),
        (["runs/none", "--examples", "0"], "--examples 0: expected a number >= 1"),
    ],
)
def test_bad_input(words: list[str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", *words]) == 2
    assert message in capsys.readouterr().err
