"""A run is of the data that it began with: whatever goes on with a run, or joins its numbers, notices others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buttress.cli import main
from buttress.comparing.comparison import Comparison
from buttress.comparing.jobs import Job
from buttress.comparing.same_examples import other_examples
from buttress.storage.seals import read_sealed, write_sealed
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint

from ..here import Done
from .conftest import Verb, make_workspace, stopped_at

Arrays = dict[str, Any]


def rewrite(change: Callable[[Arrays], None]) -> None:
    """Change ``small.npz`` in the working folder."""
    with np.load("small.npz") as file:
        arrays = dict(file)
    change(arrays)
    np.savez("small.npz", **arrays)


def move_labels(arrays: Arrays) -> None:
    arrays["y_train"] = (arrays["y_train"] + 1) % 4


def drop_examples(arrays: Arrays) -> None:
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:36], arrays["y_train"][:36]


def invert_test(arrays: Arrays) -> None:
    arrays["x_test"] = 1 - arrays["x_test"]


def delete_test_image(arrays: Arrays) -> None:
    arrays["x_test"], arrays["y_test"] = arrays["x_test"][1:], arrays["y_test"][1:]


def swap_validation(arrays: Arrays) -> None:
    arrays["x_val"] = arrays["x_val"][::-1]


CHANGES = [
    (move_labels, "train has other labels"),
    (drop_examples, "train has 36 examples and had 40"),
    (invert_test, "test has other inputs"),
    (delete_test_image, "test has 19 examples and had 20"),
    (swap_validation, "validation has other inputs"),
]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``runs`` with a finished run; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    make_workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "small.yaml", "epochs=2", "--run", "a"]) == 0
    (folder / "small.npz").unlink()  # copies of the run find it in the working folder
    return folder / "runs"


def first_json(said: str) -> Any:
    """The JSON of standard output, before what was said on standard error."""
    return json.JSONDecoder().raw_decode(said)[0]


@pytest.fixture
def run(expect: Verb, trained_once: Path) -> str:
    """A copy of that run, in the working folder."""
    shutil.copytree(trained_once, "runs")
    return "runs/small/a"


def test_a_run_records_its_data(run: str, expect: Verb):
    manifest, summary = read_sealed(Path(run, "manifest.json")), read_sealed(Path(run, "summary.json"))
    recorded = manifest["data"]["fingerprint"]
    assert {name: (split["n"], split["shape"]) for name, split in recorded.items()} == {
        "train": (40, [1, 8, 8]),
        "validation": (20, [1, 8, 8]),
        "test": (20, [1, 8, 8]),
    }
    assert summary["data"] == recorded
    assert load_checkpoint(list_checkpoints(Path(run, "checkpoints"))[0])["data"] == recorded
    evaluated = first_json(expect("evaluate", run, "--attack", "fgsm", "--json"))
    assert evaluated["fingerprint"] == recorded["test"]


@pytest.mark.parametrize(("change", "said"), CHANGES)
@pytest.mark.parametrize(
    "words",
    [
        ("evaluate",),
        ("audit", "--examples", "8"),
        ("analyze", "--part", "histogram"),
        ("export", "--output", "shelf"),
        ("reproduce", "--run", "b"),
    ],
)
def test_other_data_are_refused_by_every_verb_that_goes_on_with_a_run(
    run: str, expect: Verb, change: Callable[[Arrays], None], said: str, words: tuple[str, ...]
):
    rewrite(change)
    message = expect(words[0], run, *words[1:], code=2)
    assert f"{run} was started with other data: {said}. Put the data back" in message
    assert message.count("error: ") == 1
    assert not Path("shelf").exists()
    assert not Path("runs/small/b").exists()


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_stopped_run_does_not_go_on_with_other_data(expect: Verb, change: Callable[[Arrays], None], said: str):
    with stopped_at(5):
        expect("train", "small.yaml", "--run", "a", code=1)
    shutil.copy("small.npz", "before.npz")
    rewrite(change)
    before = Path("runs/small/a/metrics.jsonl").read_bytes()
    assert f"runs/small/a was started with other data: {said}" in expect("resume", "runs/small/a", code=2)
    assert Path("runs/small/a/metrics.jsonl").read_bytes() == before
    shutil.copy("before.npz", "small.npz")
    assert "resumed step-00000005" in expect("resume", "runs/small/a")


def test_a_checkpoint_knows_the_data_where_the_manifest_is_damaged(run: str, expect: Verb):
    Path(run, "manifest.json").write_text("{}")
    assert "is damaged" in expect("resume", run)
    rewrite(move_labels)
    assert "was started with other data: train has other labels" in expect("resume", run, code=2)


def test_a_run_of_an_older_version_goes_on_with_one_sentence(run: str, expect: Verb):
    manifest = read_sealed(Path(run, "manifest.json"))
    del manifest["data"]["fingerprint"]
    write_sealed(Path(run, "manifest.json"), manifest)
    for path in list_checkpoints(Path(run, "checkpoints")):
        body = read_sealed(path)
        del body["state"]["data"]
        write_sealed(path, body)
    said = expect("resume", run)
    assert said.count("did not record its data: whether they are still the same is not known") == 1
    expect("evaluate", run, "--attack", "fgsm")


def test_data_that_are_asked_for_by_an_override_are_no_surprise(run: str, expect: Verb):
    rewrite(invert_test)
    shutil.copy("small.npz", "inverted.npz")
    said = first_json(expect("evaluate", run, "data.path=inverted.npz", "--attack", "fgsm", "--json"))
    assert said["fingerprint"] != read_sealed(Path(run, "manifest.json"))["data"]["fingerprint"]["test"]
    message = expect("evaluate", run, "threat.eps=4/255", code=2)
    command = message.split("now: buttress ")[1].split()
    assert command[0] == "evaluate"
    expect(*command, "--attack", "fgsm")  # the way out that the message names


def test_the_numbers_of_other_data_are_not_quoted(run: str, expect: Verb):
    expect("evaluate", run, "--attack", "fgsm")
    (path,) = Path(run, "eval").glob("*.json")
    expect("export", run, "--output", "one")
    assert "fgsm" in Path("one/README.md").read_text()
    result = read_sealed(path)
    write_sealed(path, {**result, "fingerprint": {**result["fingerprint"], "inputs": "others"}})
    expect("export", run, "--output", "two")
    assert "fgsm" not in Path("two/README.md").read_text()
    expect("report", run)
    assert "test split of other data than the run&#39;s" in Path(run, "report.html").read_text()


def test_a_comparison_is_not_continued_on_other_data(expect: Verb, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buttress.launching.local.start_apart", Done)
    words = ("compare", "small.yaml", "epochs=1", "evaluation.every=1", "--name", "c")
    expect(*words, "--seeds", "1")
    shutil.copy("small.npz", "before.npz")
    rewrite(invert_test)
    said = expect(*words, "--seeds", "2", code=2)
    assert "runs/c/small-s0 was started with other data: test has other inputs" in said
    assert not Path("runs/c/small-s1").exists()
    shutil.copy("before.npz", "small.npz")
    expect(*words, "--seeds", "2")


def test_runs_of_a_comparison_that_were_tested_on_different_examples_are_named(tmp_path: Path):
    def job(label: str, seed: int, **summary: Any) -> Job:
        path = tmp_path / f"{label}-s{seed}"
        path.mkdir()
        names = ("clean_best", "clean_last", "clean_diff", "robust_best", "robust_last", "robust_diff")
        track = {"track": "live", "best_epoch": 1, "n": 8, **dict.fromkeys(names, 0.5)}
        write_sealed(path / "summary.json", {"best_by": "test", "seed": seed, "tracks": [track], **summary})
        return Job(label, seed, str(path), "", ())

    one, other = ({"data": {"train": {"n": n}, "test": {"n": n}}} for n in (7, 8))
    older, first, same = job("older", 0), job("first", 0, **one), job("same", 0, **one)
    assert other_examples([older, first, same, job("first", 1, **other)]) == ""  # a seed may draw others
    said = other_examples([older, first, same, job("third", 0, **other)])
    assert said.startswith("Caution: first and third were tested on different examples (seed 0)")
    found = Comparison(["pgd-20"], [], {}, {}, "validation", said)
    assert found.notes().endswith(said)
    assert found.to_json()["caution"] == said


def test_a_report_says_which_runs_were_tested_on_different_examples(run: str, expect: Verb):
    sentence = "Runs of one seed were tested on different examples"
    expect("train", "small.yaml", "epochs=2", "optimizer.lr=0.2", "--run", "b")
    expect("report", run, "runs/small/b", "--output", "same.html")
    assert sentence not in Path("same.html").read_text()
    rewrite(delete_test_image)
    expect("train", "small.yaml", "epochs=2", "optimizer.lr=0.3", "--run", "c")
    expect("report", run, "runs/small/c", "--output", "others.html")
    assert sentence in Path("others.html").read_text()


def test_batch_norm_is_not_reestimated_on_other_data(run: str, expect: Verb):
    words = ("ensemble", f"{run}/weights/last-live.safetensors", f"{run}/weights/last-ema.safetensors")
    expect(*words, "--reestimate", run, "--output", "one.safetensors")
    rewrite(drop_examples)
    assert "was started with other data" in expect(*words, "--reestimate", run, "--output", "two.safetensors", code=2)
