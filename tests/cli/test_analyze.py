"""``buttress analyze`` as a user runs it, and what it takes from a run folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from buttress.analysis.snapshots import live_snapshots
from buttress.analysis.study import Study
from buttress.cli import main
from buttress.functional import cross_entropy
from buttress.nn.modes import parameters_of
from buttress.storage.run_folder import RunFolder
from buttress.training.records import read_metrics
from tests.sealing import rewrite_metrics


def numbers(run: Path, stem: str) -> dict[str, Any]:
    """The numbers of a JSON file of the analysis; a picture must lie beside it."""
    file = run / "analysis" / f"{stem}.json"
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    actual: dict[str, Any] = json.loads(file.read_text(), parse_constant=lambda text: pytest.fail(f"{text} in {file}"))
    return actual


def test_every_part_leaves_numbers_and_a_picture(noisy: Path, capsys: pytest.CaptureFixture[str]):
    run = noisy / "s0"
    assert main(["analyze", str(run), "--points", "3", "--examples", "30"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("analysis/") == 12
    assert (
        f"{run}: parts that attack take 30 of 60 training examples, the first of the order that the run's seed 0"
        in printed
    )
    gap = numbers(run, "gap")
    (first, last) = gap["tracks"]["live"]["epochs"]
    assert (first["epoch"], last["epoch"]) == (2, 4)
    assert last["robust"] == last["robust_train"] - last["robust_test"]

    landscape, surface = numbers(run, "landscape-live-last"), numbers(run, "surface-meat-last")
    assert landscape["mu"] == surface["steps"] == [-1.0, 0.0, 1.0]
    assert sum(landscape["sizes"]) == landscape["n"] == surface["n"] == 30
    assert (len(landscape["groups"]), np.shape(surface["loss"])) == (7, (3, 3))
    assert {size == 0 for size in landscape["sizes"]} == {losses[1] is None for losses in landscape["groups"]}

    histogram = numbers(run, "histogram")
    assert histogram["layer"] == "layer4.0.conv2.weight"
    for track in ("live", "meat"):
        assert sum(histogram["tracks"][track]["counts"]) == histogram["tracks"][track]["n"]

    noise = numbers(run, "label_noise")
    assert noise["n"] == 15  # a quarter of 60
    assert len(noise["rows"]) == 8  # two tracks, best and last, clean and attacked
    assert all(row["as_given"] + row["as_true"] + row["as_other"] == 15 for row in noise["rows"])

    distance = numbers(run, "distance")
    assert distance["last_epoch"] == 4
    steps = distance["snapshots"]
    assert [row["epoch"] for row in steps] == [2, 3]  # the history begins after epoch 2
    assert steps[-1]["to_last"] == steps[-1]["to_next"]


def test_at_zero_a_landscape_is_the_loss_of_the_attacked_examples(noisy: Path):
    run = noisy / "s0"
    assert main(["analyze", str(run), "--part", "landscape", "--part", "surface", "--points", "3"]) == 0
    study = Study(run)
    study.load("live")
    inputs = study.attacked(study.examples)
    model = study.model.double().eval()  # attacked in single precision, as in evaluation; checked in double
    with torch.no_grad():
        expected = float(torch.cat([cross_entropy(model(x.double()), y) for x, y in inputs]).mean())
    assert numbers(run, "landscape-live-last")["mean"][1] == pytest.approx(expected, rel=1e-5)
    assert numbers(run, "surface-live-last")["loss"][1][1] == pytest.approx(expected, rel=1e-5)


def test_losses_recorded_in_training_are_those_of_the_saved_weights(noisy: Path):
    run = noisy / "s0"
    recorded = read_metrics(RunFolder(run)).events("losses")
    assert {(record["epoch"], record["track"]) for record in recorded} == {
        (2, "live"), (4, "live"), (2, "meat"), (4, "meat"),
    }  # fmt: skip
    assert all(sum(record["counts"]) == 60 for record in recorded)
    assert main(["analyze", str(run), "--part", "loss_groups"]) == 0
    actual = numbers(run, "loss_groups")
    assert "recorded in training" in actual["source"]
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    rewrite_metrics(run, "".join(line for line in lines if '"losses"' not in line).encode())
    assert main(["analyze", str(run), "--part", "loss_groups"]) == 0
    measured = numbers(run, "loss_groups")
    assert "measured at saved weights" in measured["source"]
    assert [row["epoch"] for row in measured["epochs"]] == [2, 3, 4]
    # The examples come in another order, so that their attacks start elsewhere: groups differ by an example or two.
    difference = np.subtract(measured["epochs"][-1]["counts"], actual["epochs"][-1]["counts"])
    assert np.abs(difference).sum() <= 6


def test_snapshots_of_checkpoints_and_of_a_history_are_the_same_weights(noisy: Path):
    study = Study(noisy / "s0")
    actual = study.snapshots()
    assert [(each.epoch, each.complete) for each in actual] == [(2, True), (3, True), (4, True)]
    shutil.rmtree(noisy / "s0" / "checkpoints")
    shutil.rmtree(noisy / "s0" / "weights")
    parameters = parameters_of(study.model)
    history = live_snapshots(study.folder, parameters)
    assert [(each.epoch, each.complete) for each in history] == [(2, False), (3, False), (4, False)]


def test_weights_of_a_history_equal_those_of_the_checkpoint(noisy: Path):
    study = Study(noisy / "s0")
    parameters = parameters_of(study.model)
    last = study.snapshots()[-1].read(parameters)
    shutil.rmtree(noisy / "s0" / "checkpoints")
    shutil.rmtree(noisy / "s0" / "weights")
    kept = live_snapshots(study.folder, parameters)[-1]
    for name, weight in kept.read(parameters).items():
        assert torch.equal(weight, last[name]), name
    with study.at_snapshot(kept):  # batch norm is re-estimated: the model can be used
        assert torch.isfinite(study.losses(study.attacked(study.examples))).all()


def test_runs_of_one_network_share_their_directions(noisy: Path):
    runs = [str(noisy / "s0"), str(noisy / "s1")]
    assert main(["analyze", *runs, "--part", "surface", "--points", "3", "--examples", "10", "--track", "live"]) == 0
    one, two = (numbers(Path(run), "surface-live-last") for run in runs)
    assert one["directions"] == two["directions"]
    assert one["loss"] != two["loss"]
    assert not (noisy / "s0" / "analysis" / "surface-meat-last.json").exists()


def test_recomputed_attacks_are_at_least_as_strong(noisy: Path):
    actual = []
    for flags in ([], ["--recompute"]):
        assert main(["analyze", str(noisy / "s0"), "--part", "landscape", "--points", "3", *flags]) == 0
        actual.append(numbers(noisy / "s0", "landscape-live-last"))
    fixed, anew = actual
    assert anew["inputs"] == "attacked anew at every point"
    assert fixed["mean"][1] == anew["mean"][1]
    assert anew["mean"][0] > fixed["mean"][0]
    assert anew["mean"][2] > fixed["mean"][2]


def test_what_a_run_lacks_is_said(workspace: Path, capsys: pytest.CaptureFixture[str]):
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    config["plugins"] = [{"pgd": {"steps": 1}}]
    (workspace / "bare.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    words = ["epochs=1", "evaluation.every=1", "--run", "a"]
    assert main(["train", "bare.yaml", *words]) == 0
    capsys.readouterr()
    parts = [word for part in ("gap", "label_noise", "distance") for word in ("--part", part)]
    assert main(["analyze", "runs/small/a", *parts]) == 0
    printed = capsys.readouterr().out
    assert "gap: not there: the run was not scored on its training set; train with evaluation.train=true" in printed
    assert "label_noise: not there: no label noise was injected" in printed
    assert "distance: not there: the run has kept its live model's weights of 1 epoch" in printed
    assert list((workspace / "runs" / "small" / "a" / "analysis").iterdir()) == []


def test_a_run_that_is_not_finished_is_analysed_at_its_best_weights(noisy: Path, capsys: pytest.CaptureFixture[str]):
    run = noisy / "s0"
    for path in (run / "weights").glob("last-*"):
        path.unlink()
    words = ["analyze", str(run), "--points", "3", "--examples", "20"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for part in ("landscape", "surface", "histogram"):
        assert f"{part}: not there: the run has no last weights yet; --checkpoint best takes" in printed
    assert {row["checkpoint"] for row in numbers(run, "label_noise")["rows"]} == {"best"}
    assert main([*words, "--checkpoint", "best"]) == 0
    assert "not there" not in capsys.readouterr().out
    assert numbers(run, "landscape-live-best")["checkpoint"] == "best"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["{run}", "--track", "maet"], "has no track 'maet'; did you mean 'meat'?"),
        (["{run}", "--part", "gaps"], "--part 'gaps': unknown; did you mean 'gap'?"),
        (["{run}", "--points", "4"], "--points 4: expected an odd number from 3 to 1001"),
        (["{run}", "--examples", "0"], "--examples 0: expected a number >= 1"),
    ],
)
def test_bad_input_is_refused(trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", *(word.format(run=trained / "s0") for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not (trained / "s0" / "analysis").exists()
