"""A run made again: equal, or the first difference and what may have caused it."""

import json
import shutil
from pathlib import Path

import pytest

from buttress.config.file import load_config
from buttress.storage.run_folder import RunFolder
from buttress.training.launch import launch
from buttress.training.reproduce import compare_runs, first_difference
from tests.sealing import sealed_again

from .conftest import Run


@pytest.fixture
def original(workspace: Path) -> Path:
    launch(load_config(Path("small.yaml"), ["epochs=2"]), Path("runs"), "a")
    return Path("runs/small/a")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_run_made_again_is_equal_and_says_so(buttress: Run, original: Path):
    done = buttress("reproduce", str(original), "--run", "b")
    assert done.returncode == 0, done.stderr
    assert "weights files are equal, to the last bit" in done.stdout
    assert "environment: the same" in done.stdout
    facts = json.loads(Path("runs/small/b/reproduction.json").read_text())
    assert facts["equal"] is True
    assert facts["records"] == len((original / "metrics.jsonl").read_text().splitlines())
    assert facts["weights"] == 8
    assert (original / "metrics.jsonl").read_bytes() == Path("runs/small/b/metrics.jsonl").read_bytes()


def test_another_result_is_stated_with_its_first_difference_and_exit_1(buttress: Run, original: Path):
    edit(original / "config.yaml", "seed: 3", "seed: 4")  # a config that is not the one the numbers are from
    edit(original / "manifest.json", '"torch": "', '"torch": "0.')
    edit(original / "manifest.json", "seed: 3", "seed: 4")
    sealed_again(original / "manifest.json")
    done = buttress("reproduce", str(original), "--run", "b")
    assert done.returncode == 1
    assert "first difference: metrics record 1 (event epoch, epoch 1): loss: " in done.stdout
    assert "environment: packages.torch: " in done.stdout
    assert "was not reproduced: metrics record 1" in done.stderr
    assert json.loads(Path("runs/small/b/reproduction.json").read_text())["equal"] is False


def test_wrong_words_are_refused(buttress: Run, original: Path):
    for words, message in (
        (["runs/nowhere"], "is no run folder"),
        ([str(original), "--run", "a"], "exists and is never overwritten"),
        ([str(original), "--run", "../b"], "expected at most 100 letters, digits"),
    ):
        done = buttress("reproduce", *words)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_weights_that_differ_are_named_and_an_unfinished_original_is_compared_as_far_as_it_goes(original: Path):
    launch(load_config(Path("small.yaml"), ["epochs=2"]), Path("runs"), "b")
    one, two = RunFolder(original), RunFolder(Path("runs/small/b"))
    assert compare_runs(one, two).equal
    file = two.weights / "best-ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    different = compare_runs(one, two)
    assert not different.equal
    assert different.different_weights == ["best-ema.safetensors"]
    one.summary.unlink()
    shutil.rmtree(one.checkpoints)  # else the newest one knows more metrics than there are
    one.metrics.write_text("".join(one.metrics.read_text().splitlines(keepends=True)[:3]))
    one.manifest.write_text("damaged")
    unfinished = compare_runs(one, two)
    assert unfinished.equal
    assert unfinished.records == 3
    assert [note.split(maxsplit=1)[1][:12] for note in unfinished.notes] == [
        "from record ", "has not fini", "is damaged: ",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (['{"a": 1}'], ['{"a": 1}'], ""),
        (['{"a": NaN}'], ['{"a": NaN}'], ""),
        (['{"event": "epoch", "epoch": 0, "loss": 1}'], ['{"event": "epoch", "epoch": 0, "loss": 2}'],
         "metrics record 1 (event epoch, epoch 0): loss: 1, now 2"),
        (['{"a": 1}'], ['{"a": 1}', '{"a": 2}'], "1 metrics records, now 2"),
        (['{"a": 1}'], ['{"a": '], "metrics record 1: '{\"a\": 1}', now '{\"a\": '"),
    ],
)  # fmt: skip
def test_the_first_difference(before: list[str], after: list[str], expected: str):
    assert first_difference(before, after) == expected
