"""``buttress audit``: a table, a file, and an exit code that says whether a number may be believed."""

import json
from pathlib import Path

import pytest

from buttress.cli import main
from buttress.storage.seals import read_sealed


def test_an_audit_is_printed_and_kept(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "small.yaml", "--run", "a", "epochs=2"]) == 0
    capsys.readouterr()
    code = main(["audit", "runs/small/a", "--track", "meat", "--checkpoint", "last", "--examples", "10"])
    said = capsys.readouterr()
    rows = read_sealed(workspace / "runs/small/a/audit.json")["findings"]
    about = {"track", "checkpoint", "epoch", "weights_sha256", "precision"}
    assert {*rows[0]} == {"check", "status", "reason", "cure", *about}
    assert {(row["track"], row["checkpoint"]) for row in rows} == {("meat", "last")}
    failed = [row["check"] for row in rows if row["status"] == "FAIL"]
    assert code == (1 if failed else 0)
    assert all(f"{row['status']}  {row['check']}" in said.out for row in rows)
    (strongest,) = [row for row in rows if row["check"] == "AutoAttack is strongest"]
    assert strongest["status"] == "WARN"
    command = "buttress evaluate runs/small/a --track meat --checkpoint last --attack autoattack"
    assert strongest["cure"].startswith(command)
    assert all(check in said.err for check in failed)
    main(["audit", "runs/small/a", "--examples", "5"])  # of other weights: the first audit is kept beside it
    main(["audit", "runs/small/a", "--examples", "5"])  # of the same weights: replaced
    both = read_sealed(workspace / "runs/small/a/audit.json")["findings"]
    assert both[: len(rows)] == rows
    assert [row["track"] for row in both[len(rows) :]] == ["live"] * len(rows)


def test_evaluations_of_something_else_are_not_looked_at(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "small.yaml", "--run", "a", "epochs=1"]) == 0
    run = ["runs/small/a", "--attack", "pgd-2", "--attack", "spsa: {steps: 1, samples: 2}"]
    (workspace / "other.npz").write_bytes((workspace / "small.npz").read_bytes())

    def status() -> str:
        main(["audit", "runs/small/a", "--examples", "5"])
        rows = read_sealed(workspace / "runs/small/a/audit.json")["findings"]
        (found,) = [row["status"] for row in rows if row["check"] == "SPSA is weaker"]
        return str(found)

    normal = "model={name: preact_tiny, width: 2, normalize: {mean: [0.5], std: [1]}}"
    for change in ("threat.eps=1/255", normal, "data.path=other.npz"):
        assert main(["evaluate", *run, change]) == 0
    assert status() == "SKIP"  # none of them is of what the run is about
    assert main(["evaluate", *run]) == 0
    assert status() == "PASS"
    newest = sorted((workspace / "runs/small/a/eval").glob("*.json"))[-1]
    newest.write_text(newest.read_text()[:-9])
    capsys.readouterr()
    assert main(["audit", "runs/small/a"]) == 2
    assert f"{newest.name} cannot be read" in (said := capsys.readouterr().err)
    assert "delete it, and evaluate again" in said


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
    assert "error: runs/small/a fails: outputs are logits" in said.err


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
