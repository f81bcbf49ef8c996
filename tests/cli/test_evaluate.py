"""``buttress evaluate`` as a user gives it: runs and files, results on disk, Ctrl-C, wrong input."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from buttress.audit.probe import Probe
from buttress.cli import main
from buttress.evaluation.saved_run import load_run
from buttress.scoring.keeper import Keeper
from buttress.storage.seals import read_sealed

from .conftest import make_workspace

RUN = "runs/small/a"
LIVE = f"{RUN}/weights/best-live.safetensors"
OF_FILE = ["model.name=preact_tiny", "model.width=2", "data.name=npz", "data.path=small.npz"]
THREAT = ["threat.norm=linf", "threat.eps=8/255"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of the small run, trained once."""
    folder = tmp_path_factory.mktemp("finished")
    make_workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "small.yaml", "--run", "a", "epochs=1", "meat.start=0"]) == 0
    return folder


@pytest.fixture
def trained(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run of one's own; the working folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def without_time(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in result["attacks"]]


def test_more_examples_than_there_are_is_said_once(trained: Path, capsys: pytest.CaptureFixture[str]):
    for examples, times in ((21, 1), (20, 0)):
        assert main(["evaluate", RUN, "--attack", "fgsm", "--examples", str(examples)]) == 0
        said = capsys.readouterr().err
        assert said.count("note: --examples 21, and the test split has 20: all of them are taken") == times


def test_results_and_verdicts_are_written_and_agree(trained: Path, capsys: pytest.CaptureFixture[str]):
    attacks = ["fgsm", "fgsm: {start: uniform}", "mifgsm-3", "cw-3", "spsa: {steps: 2, samples: 4}"]
    words = [word for attack in attacks for word in ("--attack", attack)]
    result = evaluated(capsys, RUN, *words, "--examples", "12", "evaluation.batch_size=5")
    assert [row["attack"] for row in result["attacks"]] == [
        "clean", "fgsm", "fgsm: {start: uniform}", "mifgsm-3", "cw-3", "spsa-2",
    ]  # fmt: skip
    assert (result["n"], result["split_size"], result["batch_size"]) == (12, 20, 5)
    assert result["attacks"][5]["settings"]["spsa"]["samples"] == 4
    assert read_sealed(Path(result["file"])) == result
    with np.load(result["samples"]) as file:
        assert list(file["attacks"]) == [row["attack"] for row in result["attacks"]]
        assert (int(file["seed"]), file["index"].shape, file["correct"].shape) == (0, (12,), (6, 12))
        with np.load("small.npz") as data:
            assert np.array_equal(file["label"], data["y_test"][file["index"]])
        left = np.ones(12, bool)
        for row, attacked, correct in zip(result["attacks"], file["attacked"], file["correct"], strict=True):
            assert np.array_equal(attacked, left)
            assert (row["attacked"], row["wrong"]) == (attacked.sum(), (attacked & ~correct).sum())
            left &= correct
            assert row["left"]["accuracy"] == left.mean()
        assert np.array_equal(file["worst"], left)
    assert result["worst"] == result["attacks"][-1]["left"]
    assert sorted(path.suffix for path in Path(RUN, "eval").iterdir()) == [".json", ".npz"]  # nothing unfinished


def test_a_smaller_subset_lies_in_a_larger_one_and_too_many_are_all(trained: Path, capsys: pytest.CaptureFixture[str]):
    def index(*words: str) -> list[int]:
        with np.load(evaluated(capsys, RUN, "--attack", "clean", *words)["samples"]) as file:
            found: list[int] = file["index"].tolist()
            return found

    five, ten = index("--examples", "5"), index("--examples", "10")
    assert set(five) < set(ten)
    assert ten == sorted(ten)
    assert ten != list(range(10))
    assert index("--examples", "500") == index() == list(range(20))


@pytest.mark.parametrize("seed", [0, 7])
def test_an_audit_looks_at_the_examples_that_an_evaluation_of_so_many_takes(
    trained: Path, capsys: pytest.CaptureFixture[str], seed: int
):
    found = evaluated(capsys, RUN, "--attack", "clean", "--examples", "5", f"evaluation.seed={seed}")
    with np.load(found["samples"]) as file:
        index = torch.from_numpy(file["index"])
    run = load_run(Path(RUN))
    probe = Probe(run.model, run.data.test, run.threat, examples=5, seed=seed)
    assert torch.equal(probe.x, run.data.test.x[index])
    assert torch.equal(probe.y, run.data.test.y[index])


def test_a_file_of_weights_gives_what_its_run_gives(trained: Path, capsys: pytest.CaptureFixture[str]):
    weights = f"{RUN}/weights/last-meat.safetensors"
    torch.save({"state_dict": load_file(weights)}, "meat.pth")
    whole = evaluated(capsys, RUN, "--track", "meat", "--checkpoint", "last", "evaluation.attack=pgd")
    forms = [
        [RUN, "--checkpoint", weights, "evaluation.attack=pgd"],
        [weights, "--config", "small.yaml", "evaluation.attack=pgd", "--output", "elsewhere"],
        ["meat.pth", *OF_FILE, *THREAT, "evaluation.attack=pgd"],
    ]
    for words in forms:
        assert without_time(evaluated(capsys, *words)) == without_time(whole)
    assert len(list(Path("elsewhere").glob("*.json"))) == 1
    assert len(list(Path("eval").glob("*.json"))) == 1
    capsys.readouterr()
    assert main(["evaluate", "meat.pth", *OF_FILE, *THREAT]) == 0
    said = capsys.readouterr().out
    assert "left: right without an attack and under all attacks so far" in said
    assert "weights meat.pth, test split, linf eps 8/255" in said
    assert "worst case: " in said
    assert "n = 20)" in said


@pytest.mark.parametrize("name", ["w.tar", "w.ckpt", "w.PTH", "w.pth.tar", "w.bin", "w", "w.SAFETENSORS"])
def test_a_file_is_known_by_its_content_whatever_it_is_called(
    name: str, trained: Path, capsys: pytest.CaptureFixture[str]
):
    state = {f"_orig_mod.module.{key}": tensor for key, tensor in load_file(LIVE).items()}
    if name == "w.SAFETENSORS":
        save_file(state, name)
    else:
        torch.save({"model_state_dict": state, "epoch": 3}, name)
    whole = evaluated(capsys, RUN, "--attack", "fgsm")
    for words in ([name, *OF_FILE, *THREAT], [RUN, "--checkpoint", name]):
        assert without_time(evaluated(capsys, *words, "--attack", "fgsm")) == without_time(whole)


def test_the_old_formats_of_torch_are_known_too(trained: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(load_file(LIVE), "old.tar", _use_new_zipfile_serialization=False)
    assert evaluated(capsys, "old.tar", *OF_FILE, *THREAT, "--attack", "fgsm")["n"] == 20


def test_of_several_sets_of_weights_one_is_chosen(trained: Path, capsys: pytest.CaptureFixture[str]):
    meat = f"{RUN}/weights/best-meat.safetensors"
    torch.save({"model": load_file(LIVE), "ema": {k: v + 0.5 for k, v in load_file(meat).items()}}, "both.pth")
    file = ["both.pth", *OF_FILE, *THREAT, "--attack", "fgsm"]
    assert main(["evaluate", *file]) == 2
    assert "choose one by its key" in capsys.readouterr().err
    expected = without_time(evaluated(capsys, RUN, "--attack", "fgsm"))
    assert without_time(evaluated(capsys, *file, "--key", "model")) == expected
    assert without_time(evaluated(capsys, RUN, "--checkpoint", "both.pth", "--key", "model", *file[-2:])) == expected


def test_another_threat_model_and_seed_are_overrides(trained: Path, capsys: pytest.CaptureFixture[str]):
    result = evaluated(capsys, RUN, "--track", "meat", "--attack", "fgsm", "threat.eps=0", "evaluation.seed=7")
    clean, fgsm = result["attacks"]
    assert clean["accuracy"] == fgsm["accuracy"]
    assert result["seed"] == 7
    assert "eps 0" in result["threat"]
    assert (result["track"], result["checkpoint"], result["epoch"]) == ("meat", "best", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_evaluation_goes_on_with_the_same_command(
    number: signal.Signals, trained: Path, capsys: pytest.CaptureFixture[str]
):
    words = [RUN, "--attack", "pgd-2", "--attack", "pgd-100", "--attack", "cw-100", "evaluation.batch_size=2"]
    # What a shell starts in the background ignores Ctrl-C, and so would this process if the tests are started there.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from buttress.cli import main; raise SystemExit(main())"
    )
    command = [sys.executable, "-c", program, "evaluate", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    folder, deadline = Path(RUN, "eval"), time.monotonic() + 90

    def done() -> int:
        for path in folder.glob("unfinished-*.npz"):
            with np.load(path) as file:
                return int(file["done"].sum())
        return 0

    while done() < 23:  # clean and pgd-2 have ten batches each
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 1
        assert f"stopped by {number.name}; what was done is kept in runs/small/a/eval; give the same" in said
    before = done()
    assert 23 <= before < 40
    (partial,) = folder.glob("unfinished-*.npz")
    other = evaluated(capsys, *words, "--examples", "3")  # another command neither uses nor removes it
    assert other["n"] == 3
    assert partial.exists()
    resumed = evaluated(capsys, *words)
    assert not partial.exists()
    whole = evaluated(capsys, *words)
    assert without_time(resumed) == without_time(whole)
    with np.load(resumed["samples"]) as one, np.load(whole["samples"]) as two:
        assert all(np.array_equal(one[key], two[key]) for key in ("index", "label", "attacked", "correct", "worst"))


def test_an_unfinished_evaluation_is_known_by_everything_that_its_verdicts_depend_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch
):
    names: list[str] = []

    def stop(*_: Any, keeper: Keeper, **__: Any) -> None:
        names.append(keeper.work)
        raise KeyboardInterrupt

    monkeypatch.setattr("buttress.evaluation.assess.attack_all", stop)
    two = ["--attack", "pgd-2", "--attack", "fgsm"]
    variants = [
        two,
        ["--attack", "fgsm", "--attack", "pgd-2"],
        ["--attack", "pgd-3", "--attack", "fgsm"],
        [*two, "--each"],
        [*two, "--track", "meat"],
        [*two, "--checkpoint", f"{RUN}/weights/best-meat.safetensors"],
        [*two, "--split", "validation"],
        [*two, "--examples", "19"],
        [*two, "evaluation.seed=1"],
        [*two, "evaluation.batch_size=7"],
        [*two, "threat.eps=7/255"],
    ]
    for words in variants:
        assert main(["evaluate", RUN, *words]) == 1
    # As a run it takes its own data alone; as a file, those of the working folder where an override says so.
    own = [f"{RUN}/weights/best-live.safetensors", "--config", f"{RUN}/config.yaml", "data.path=small.npz"]
    assert main(["evaluate", *own, *two]) == 1
    with np.load("small.npz") as file:
        arrays = {name: 1 - file[name] if name == "x_test" else file[name] for name in file.files}
    np.savez("small.npz", **arrays)
    assert main(["evaluate", *own, *two]) == 1
    assert len(set(names)) == len(variants) + 2
    assert main(["evaluate", *own, *two]) == 1
    assert names[-1] == names[-2]


class Canary:
    """Touches a file when it is unpickled by a loader that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("canary"),))


def three_classes(folder: Path) -> None:
    with np.load(folder / "small.npz") as file:
        arrays = {name: file[name] % 3 if name.startswith("y") else file[name] for name in file.files}
    np.savez(folder / "three.npz", **arrays)
    from buttress_plugins.models.preact_resnet import preact_tiny

    save_file(preact_tiny(in_channels=1, num_classes=3, width=2).state_dict(), folder / "three.safetensors")


def out_of_range(folder: Path) -> None:
    with np.load(folder / "small.npz") as file:
        arrays = {name: file[name] * 255 if name == "x_test" else file[name] for name in file.files}
    np.savez(folder / "large.npz", **arrays)


THREE = ["three.safetensors", *OF_FILE[:3], "data.path=three.npz", *THREAT]

BAD = {
    "missing run": ([RUN[:-1] + "b"], ["runs/small/b is no run folder: it does not exist; known: a"]),
    "missing file": (["no.pth", *OF_FILE, *THREAT], ["no.pth does not exist"]),
    "unknown track": ([RUN, "--track", "maet"], ["has no track 'maet'; did you mean 'meat'?"]),
    "unknown checkpoint": ([RUN, "--checkpoint", "worst"], ["worst does not exist; expected best, last, or a file"]),
    "checkpoint of another model": (
        [LIVE, *OF_FILE[:1], "model.width=3", *OF_FILE[2:], *THREAT], [LIVE, "weights of another model: other shape"]),
    "checkpoint of another architecture": (
        [LIVE, "model.name=mlp", *OF_FILE[2:], *THREAT], [LIVE, "weights of another model: missing", "unexpected"]),
    "code in a .pth": (["code.pth", *OF_FILE, *THREAT], ["code.pth is refused", "runs no code"]),
    "code as a checkpoint": ([RUN, "--checkpoint", "code.pth"], ["code.pth is refused", "runs no code"]),
    "old pickle": (["pickle.pt", *OF_FILE, *THREAT], ["pickle.pt is refused", "runs no code"]),
    "fewer than 4 classes": (
        [*THREE, "--attack", "autoattack"], ["expected at least 4 classes, got 3", "take its other attacks"]),
    "data out of range": ([RUN, "data.path=large.npz"], ["split test: example 0 lies outside of the box", "[0, 1]"]),
    "no model, no data": (["x.pth", "threat.norm=l2"], ["which model, data the weights belong to is not known"]),
    "no eps": (["code.pth", *OF_FILE, "threat.norm=l2"], ["code.pth: threat.eps"]),
    "neither run nor weights": (["small.yaml", *THREAT], ["small.yaml is neither a run folder nor a file of weights"]),
    "key of a run": ([RUN, "--key", "ema"], ["--key ema: the best weights of a run are one set"]),
    "unknown key of a file": ([LIVE, *OF_FILE, *THREAT, "--key", "ema"], ["no weights under the key 'ema'"]),
    "weights of another head": ([LIVE, *THREE[1:]], [LIVE, "fits but for the head", "except: [linear]"]),
    "track of a file": ([LIVE, *OF_FILE, *THREAT, "--track", "live"], ["is a file of weights", "--track"]),
    "track of a checkpoint file": ([RUN, "--checkpoint", LIVE, "--track", "meat"], ["--track meat", "one file"]),
    "config of a run": ([RUN, "--config", "small.yaml"], ["is a run folder and has a config"]),
    "no such split": ([LIVE, *OF_FILE, "data.path=three.npz", *THREAT, "--split", "tset"], ["--split: expected test"]),
    "unknown attack": ([RUN, "--attack", "pdg-3"], ["unknown attack 'pdg'; did you mean 'pgd'?"]),
    "attack twice": ([RUN, "--attack", "fgsm", "--attack", "fgsm", "--attack", "fgsm"], ["'fgsm' is given twice"]),
    "no example": ([RUN, "--examples", "0"], ["--examples 0: expected a number >= 1"]),
    "unknown key": ([RUN, "threat.epps=1"], ["threat.epps: unknown key"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_error_and_nothing_is_executed_or_written(
    name: str, trained: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": Canary()}, "code.pth")
    Path("pickle.pt").write_bytes(pickle.dumps(Canary()))
    three_classes(trained)
    out_of_range(trained)
    words, expected = BAD[name]
    capsys.readouterr()
    code = main(["evaluate", *words])
    said = capsys.readouterr().err
    assert code == 2, said
    assert all(text in said for text in expected), said
    assert "Traceback" not in said
    assert not Path("canary").exists()
    assert not list(trained.rglob("eval/*"))


def test_the_canary_can_sing(trained: Path):
    torch.save(Canary(), "code.pth")
    torch.load("code.pth", weights_only=False)
    assert Path("canary").exists()


def test_an_attack_that_refuses_the_model_leaves_what_was_done(trained: Path, capsys: pytest.CaptureFixture[str]):
    words = [RUN, "--attack", "fgsm", "--attack", "autoattack", "threat.box=[-1, 2]"]
    assert main(["evaluate", *words]) == 2
    assert "autoattack: it clips to [0, 1], and the threat model is linf eps 8/255, box [-1, 2]" in (
        capsys.readouterr().err
    )
