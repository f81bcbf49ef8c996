"""``buttress ensemble`` as a user runs it: on the files of a run, batch norm measured afresh, wrong input refused."""

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from buttress.cli import main
from buttress.storage.reading import read_facts


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished run of four epochs, the last three of which MEAT keeps."""
    assert main(["train", "small.yaml", "--run", "a", "checkpoint.keep=4"]) == 0
    capsys.readouterr()
    return workspace / "runs" / "small" / "a"


def words(files: Sequence[Path], workspace: Path) -> list[str]:
    return [str(path.relative_to(workspace)) for path in files]


def equal_files(a: Path, b: Path) -> None:
    one, two = load_file(a), load_file(b)
    assert set(one) == set(two)
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_the_history_of_a_run_gives_its_meat_weights_bit_for_bit(
    workspace: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    history = sorted((run / "history" / "meat").glob("*.safetensors"))
    assert len(history) == 3
    options = ["--reestimate", "runs/small/a", "--output", "out.safetensors"]
    assert main(["ensemble", *words(history, workspace), *options]) == 0
    assert capsys.readouterr().out == (
        "median of 3 files, written to out.safetensors\n"
        "batch norm re-estimated on the training inputs of runs/small/a\n"
    )
    equal_files(workspace / "out.safetensors", run / "weights" / "last-meat.safetensors")
    assert read_facts(workspace / "out.safetensors") == {
        "method": "median", "even": "lower", "n": 3, "reestimated": "runs/small/a", "precision": "float32",
        "inputs": [
            {"name": str(path.relative_to(workspace)), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in history
        ],
    }  # fmt: skip


def test_checkpoints_of_a_run_give_the_same(workspace: Path, run: Path):
    """The checkpoints of the epochs that MEAT kept hold the same weights, among much else."""
    found = sorted((run / "checkpoints").glob("*.safetensors"))[-3:]
    options = ["--reestimate", "small.yaml", "--output", "out.safetensors"]
    assert main(["ensemble", *words(found, workspace), *options]) == 0
    equal_files(workspace / "out.safetensors", run / "weights" / "last-meat.safetensors")


@pytest.mark.parametrize("kind", ["history/meat", "weights", "checkpoints"])
def test_files_of_a_run_with_a_flipped_bit_are_refused(
    workspace: Path, run: Path, capsys: pytest.CaptureFixture[str], kind: str
):
    files = sorted((run / kind).glob("*.safetensors"))[-2:]
    content = bytearray(files[1].read_bytes())
    content[-1] ^= 1
    files[1].write_bytes(content)
    assert main(["ensemble", *words(files, workspace), "--output", "out.safetensors"]) == 2
    assert f"{words(files, workspace)[1]} is damaged: the sha256" in capsys.readouterr().err.replace(
        "its sha256", "the sha256"
    )
    assert not (workspace / "out.safetensors").exists()


def test_a_history_without_a_model_is_said_to_load_nowhere(
    workspace: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    history = sorted((run / "history" / "meat").glob("*.safetensors"))
    assert main(["ensemble", *words(history, workspace), "--output", "out.safetensors"]) == 0
    assert "which no model loads; --reestimate CONFIG|RUN makes a whole model's weights" in capsys.readouterr().out


def test_checkpoints_without_their_json_are_taken_as_files_of_anybody(workspace: Path, run: Path):
    for number, path in enumerate(sorted((run / "checkpoints").glob("*.safetensors"))[-2:]):
        (workspace / f"step-{number}.safetensors").write_bytes(path.read_bytes())
    assert main(["ensemble", "step-0.safetensors", "step-1.safetensors", "--output", "out.safetensors"]) == 0


def test_weights_are_combined_as_they_are_without_a_model(
    workspace: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    files = sorted((run / "weights").glob("last-*.safetensors"))
    options = ["--method", "trimmed-mean", "--trim", "0.25", "--output", "out.safetensors"]
    assert main(["ensemble", *words(files, workspace), *options]) == 0
    assert "note: batch-norm statistics were combined like weights; --reestimate CONFIG|RUN" in capsys.readouterr().out
    inputs, found = [load_file(path) for path in files], load_file(workspace / "out.safetensors")
    for name, value in found.items():
        if value.is_floating_point():
            middle = torch.stack([each[name] for each in inputs]).double().sort(dim=0).values[1:-1]
            torch.testing.assert_close(value.double(), middle.mean(0), rtol=1e-7, atol=1e-12)
        else:
            assert torch.equal(value, inputs[-1][name])
    facts = read_facts(workspace / "out.safetensors")
    assert {key: facts[key] for key in ("method", "trim", "n")} == {"method": "trimmed-mean", "trim": 0.25, "n": 4}
    # the result starts a run
    assert main(["train", "small.yaml", "--dry-run", "model.weights=out.safetensors"]) == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], 1.0), (["--even", "upper"], 2.0), (["--even", "mean"], 1.5), (["--method", "mean"], 3.0)],
)
def test_every_method(workspace: Path, options: list[str], expected: float):
    for number, value in enumerate([0.0, 1.0, 2.0, 9.0]):
        save_file({"w": torch.tensor([value])}, workspace / f"{number}.safetensors")
    files = [f"{number}.safetensors" for number in range(4)]
    assert main(["ensemble", *files, *options, "--output", "out.safetensors"]) == 0
    assert load_file(workspace / "out.safetensors")["w"].tolist() == [expected]


def test_files_of_every_form_are_combined_and_their_facts_recorded(workspace: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"ema": {"module.v": torch.tensor([1.0, 4])}}, workspace / "a.pth")
    torch.save({"ema": {"v": torch.tensor([2.0, 8]).half()}, "model": {"v": torch.zeros(2)}}, workspace / "b.pt")
    folder = workspace / "c"
    folder.mkdir()
    save_file({"v": torch.tensor([3.0, 3])}, folder / "x.safetensors")
    index = {"weight_map": {"v": "x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    options = ["--dtype", "float32", "--key", "ema", "--output", "out.safetensors"]
    assert main(["ensemble", "a.pth", "b.pt", "c", *options]) == 0
    assert capsys.readouterr().out.startswith("median of 3 files, written to out.safetensors\n")
    result = load_file(workspace / "out.safetensors")
    assert {name: value.tolist() for name, value in result.items()} == {"module.v": [2, 4]}  # named as in the first
    facts = read_facts(workspace / "out.safetensors")
    assert (facts["dtype"], facts["key"]) == ("float32", "ema")
    assert [each["name"] for each in facts["inputs"]] == ["a.pth", "b.pt", "c/model.safetensors.index.json"]
    assert list(facts["inputs"][2]["shards"]) == ["x.safetensors"]


def test_the_geometric_median_of_files_has_its_weights_in_the_facts(workspace: Path):
    corners = torch.tensor([[0.0, 0], [4, 0], [1, 3]], dtype=torch.float64)
    for number, corner in enumerate(corners):
        save_file({"v": corner}, workspace / f"{number}.safetensors")
    files = [f"{number}.safetensors" for number in range(3)]
    assert main(["ensemble", *files, "--method", "geometric-median", "--output", "out.safetensors"]) == 0
    point, facts = load_file(workspace / "out.safetensors")["v"], read_facts(workspace / "out.safetensors")
    assert torch.allclose(torch.tensor(facts["weights"], dtype=torch.float64) @ corners, point)
    assert facts["excess"] <= facts["tolerance"] == 1e-9
    # from the Fermat point every side is seen at 120 degrees
    rays = torch.nn.functional.normalize(corners - point, dim=1)
    assert torch.allclose((rays @ rays.T)[[0, 0, 1], [1, 2, 2]], torch.tensor(-0.5, dtype=torch.float64), atol=1e-6)


def test_values_that_are_not_finite_are_counted(workspace: Path, capsys: pytest.CaptureFixture[str]):
    save_file({"w": torch.tensor([1.0, torch.nan, torch.inf])}, workspace / "a.safetensors")
    assert main(["ensemble", "a.safetensors", "--output", "out.safetensors"]) == 0
    assert "note: 2 values are not finite" in capsys.readouterr().out


def test_a_file_given_twice_is_noted_and_so_is_a_copy(workspace: Path, capsys: pytest.CaptureFixture[str]):
    for name, value in (("a", 1.0), ("b", 2.0), ("copy", 2.0)):
        save_file({"w": torch.tensor([value])}, workspace / f"{name}.safetensors")
    files = [f"{name}.safetensors" for name in ("a", "b", "b", "copy")]
    assert main(["ensemble", *files, "--method", "mean", "--output", "out.safetensors"]) == 0
    said = capsys.readouterr().out
    assert (
        "note: b.safetensors, b.safetensors, copy.safetensors have the same contents, and each of them counts" in said
    )
    assert load_file(workspace / "out.safetensors")["w"].item() == 1.75
    assert main(["ensemble", *files[:2], "--output", "two.safetensors"]) == 0
    assert "same contents" not in capsys.readouterr().out


def test_a_terminal_gets_a_bar(workspace: Path):
    save_file({"w": torch.randn(3_000_000)}, workspace / "a.safetensors")
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", "ensemble"]
    process = subprocess.Popen(
        [*command, *["a.safetensors"] * 5, "--output", "out.safetensors"],
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
    assert b"median of 5 files" in shown
    assert b"60.0/60.0 MB" in shown


def other_model(folder: Path) -> None:
    save_file({"w": torch.zeros(2)}, folder / "b.safetensors")


def cut(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-3])


def no_safetensors(folder: Path) -> None:
    torch.save({"v": torch.zeros(3)}, folder / "b.safetensors")


def with_code(folder: Path) -> None:
    torch.save({"v": torch.zeros(3), "x": Path}, folder / "c.pth")


def half(folder: Path) -> None:
    save_file({"v": torch.zeros(3).half()}, folder / "b.safetensors")


def nan(folder: Path) -> None:
    save_file({"v": torch.tensor([0, torch.nan, 0])}, folder / "b.safetensors")


def other_model_under_keys(folder: Path) -> None:
    torch.save({"model": {"v": torch.zeros(3)}, "ema": {"v": torch.zeros(3)}}, folder / "c.pth")


def taken(folder: Path) -> None:
    (folder / "out.safetensors").write_text("precious")


BAD = {
    "another model": (other_model, [], ["b.safetensors lacks 'v', unlike a.safetensors"]),
    "truncated": (cut, [], ["b.safetensors cannot be read", "truncated"]),
    "no safetensors": (no_safetensors, [], ["b.safetensors cannot be read", "no safetensors"]),
    "missing": (None, ["c.safetensors"], ["c.safetensors does not exist"]),
    "a folder": (None, ["."], [". is a folder: expected one index (*.safetensors.index.json)"]),
    "a pickle with code": (with_code, ["c.pth"], ["c.pth is refused by torch's restricted loader"]),
    "another dtype": (half, [], ["b.safetensors: 'v' is torch.float16, expected torch.float32", "--dtype float32"]),
    "another key": (other_model_under_keys, ["--key", "emo", "c.pth"], ["under the key 'emo'", "did you mean"]),
    "NaN in a geometric median": (nan, ["--method", "geometric-median"], ["b.safetensors holds values", "not finite"]),
    "trim of a geometric median": (None, ["--method", "geometric-median", "--trim", "0.1"], ["--trim belongs to"]),
    "even of a mean": (None, ["--method", "mean", "--even", "lower"], ["--even belongs to --method median, not mean"]),
    "trim of a median": (None, ["--trim", "0.1"], ["--trim belongs to --method trimmed-mean, not median"]),
    "trim of all": (None, ["--method", "trimmed-mean", "--trim", "0.5"], ["--trim 0.5: expected a share", "(0, 0.5)"]),
    "trim NaN": (None, ["--method", "trimmed-mean", "--trim", "nan"], ["--trim nan: expected a share"]),
    "trim of none": (None, ["--method", "trimmed-mean"], ["--trim 0.1 leaves out none of 2 files", "--method mean"]),
    "output exists": (taken, [], ["out.safetensors exists and is never overwritten; choose another --output"]),
    "output is an input": (None, ["--output", "a.safetensors"], ["a.safetensors exists and is never overwritten"]),
    "output without a folder": (None, ["--output", "no/out.safetensors"], ["no is no folder; make it first"]),
    "output of another kind": (None, ["--output", "out.pth"], ["--output out.pth: expected a name"]),
    "no run folder": (None, ["--reestimate", "."], [". is no run folder"]),
    "no config": (None, ["--reestimate", "nothing.yaml"], ["nothing.yaml: cannot be read"]),
    "weights of another model": (None, ["--reestimate", "small.yaml"], ["the result", "of another model"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    case: str, workspace: Path, capsys: pytest.CaptureFixture[str]
):
    change, options, expected = BAD[case]
    for name in "ab":
        save_file({"v": torch.zeros(3)}, workspace / f"{name}.safetensors")
    if change is not None:
        change(workspace)
    before = {path: path.read_bytes() for path in workspace.iterdir()}
    code = main(["ensemble", "--output", "out.safetensors", *options, "a.safetensors", "b.safetensors"])
    said = capsys.readouterr().err
    assert code == 2, said
    for text in expected:
        assert text in said
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in workspace.iterdir()} == before


def test_a_full_disk_is_exit_code_one_and_leaves_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    save_file({"v": torch.zeros(3)}, workspace / "a.safetensors")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.pwrite", full)
    before = sorted(workspace.iterdir())
    assert main(["ensemble", "a.safetensors", "--output", "out.safetensors"]) == 1
    assert "cannot write out.safetensors: No space left on device" in capsys.readouterr().err
    assert sorted(workspace.iterdir()) == before
