"""``buttress pseudo-label``: its file trains another run, and holds what the model says; wrong input."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from buttress import load_model
from buttress.cli import main
from buttress.evaluation import pseudo_labels, subject
from buttress.evaluation.image_array import ImageArray
from buttress.storage.seals import read_sealed
from buttress_plugins.data.digits import Digits
from buttress_plugins.data.npz import Npz

from .conftest import Verb, stopped_at
from .test_resume import fingerprint

RUN = "runs/teacher/a"
SPLIT = {"train_per_class": 6, "validation": 1000, "split_seed": 0}
UNLABELLED = json.dumps({"name": "digits", **SPLIT, "unlabelled_per_class": 8})
TEACHER: dict[str, Any] = {
    "name": "teacher",
    "data": {"name": "digits", **SPLIT, "batch_size": 20},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": ["clean", {"meat": {"start": 0}}],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "epochs": 20,
    "evaluation": {"every": 20, "attack": {"fgsm": {}}},
}
STUDENT = {
    **TEACHER,
    "name": "student",
    "data": {**TEACHER["data"], "extra": {"name": "npz", "path": "more.npz", "share": "1/2"}},
    "plugins": [{"pgd": {"steps": 1, "loss": "kl", "start": "gaussian"}}, "rst"],
    "epochs": 2,
    "evaluation": {"attack": {"fgsm": {}}},
}


OWN = '''
"""Images of my own."""

import torch

from buttress import Data, Split


def some(*, n: int = 8) -> Data:
    """Some.

    Args:
        n: number.
    """
    split = Split(torch.zeros(n, 1, 8, 8), torch.arange(n) % 10)
    return Data(train=split, test=split, num_classes=10)
'''


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "teacher.yaml").write_text(yaml.safe_dump(TEACHER, sort_keys=False))
    assert main(["train", str(folder / "teacher.yaml"), "--runs", str(folder), "--run", "a"]) == 0
    return folder / "teacher"


@pytest.fixture
def trained(teacher: Path, workspace: Path) -> Path:
    """The working folder, in which ``RUN`` is a copy of that run."""
    shutil.copytree(teacher, "runs/teacher")
    return workspace


@torch.no_grad()
def predictions(x: torch.Tensor, **which: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes of ``x [n,1,8,8]`` and their probabilities, in float64."""
    probabilities, classes = load_model(RUN, **which).double()(x.double()).softmax(1).max(1)
    return classes.numpy(), probabilities.numpy()


def test_rst_trains_on_the_labels_of_a_run_and_resumes_exactly(trained: Path, expect: Verb):
    said = expect("pseudo-label", RUN, "--data", UNLABELLED, "--batch-size", "33", "--output", "more.npz")
    assert "live weights, best (epoch 20), extra split of digits, float32\n" in said
    assert "correct" not in said  # nothing is known about them
    split = Digits(**SPLIT, unlabelled_per_class=8).load(0).extra
    assert split is not None
    classes, _ = predictions(split.x)
    assert len(np.unique(classes)) > 5
    written = Npz(path="more.npz", num_classes=10).load(0).train
    assert torch.equal(written.x, split.x)
    assert np.array_equal(written.y, classes)
    Path("student.yaml").write_text(yaml.safe_dump(STUDENT, sort_keys=False))
    expect("train", "student.yaml", "--run", "whole")
    with stopped_at(4):
        expect("train", "student.yaml", "--run", "parts", code=1)
    expect("resume", "runs/student/parts")
    assert fingerprint(Path("runs/student/parts")) == fingerprint(Path("runs/student/whole"))


def test_the_record_says_where_the_labels_come_from_and_how_sure_they_are(trained: Path, expect: Verb):
    rng = np.random.default_rng(3)
    images, given = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8), np.arange(60) % 11 - 1
    np.savez("all.npz", image=images, label=given)
    x = torch.from_numpy(images).movedim(-1, 1) / 255
    classes, confidence = predictions(x, track="meat", checkpoint="last")
    limit = float(np.sort(confidence)[20:22].mean())
    words = ["--track", "meat", "--checkpoint", "last", "--min-confidence", str(limit)]
    words += ["--data", "{name: npz, path: all.npz, num_classes: 10}"]
    said = expect("pseudo-label", RUN, *words, "--output", "more.npz")
    kept = confidence >= limit
    assert kept.sum() == 39
    with np.load("more.npz") as file:
        assert sorted(file) == ["image", "label"]
        assert file["image"].dtype == np.uint8
        assert np.array_equal(file["image"], images[kept])
        assert file["label"].dtype == np.int64
        assert np.array_equal(file["label"], classes[kept])
    record = read_sealed(Path("more.json"))
    known = kept & (given >= 0)
    right = int((classes == given)[known].sum())
    assert record["file_sha256"] == sha256(Path("more.npz").read_bytes()).hexdigest()
    assert (record["run"], record["track"], record["checkpoint"], record["epoch"]) == (RUN, "meat", "last", 20)
    assert record["weights_sha256"] == sha256(Path(record["weights"]).read_bytes()).hexdigest()
    assert (record["split"], record["dataset"]["name"], record["dtype"]) == ("train", "npz", "uint8")
    assert record["fingerprint"]["n"] == record["all"]["images"] == 60
    assert [row["images"] for row in record["classes"]] == np.bincount(classes, minlength=10).tolist()
    assert [row["kept"] for row in record["classes"]] == np.bincount(classes[kept], minlength=10).tolist()
    assert record["all"]["correct"]["n"] == known.sum()
    assert record["all"]["correct"]["accuracy"] == right / known.sum()
    quantiles = {float(share): value for share, value in record["confidence"].items()}
    assert list(quantiles.values()) == pytest.approx(np.quantile(confidence, list(quantiles)), rel=1e-5)
    assert f"{60:6}    39" in said
    assert f"correct: share of the kept images whose given label it is (n = {known.sum()})" in said


def test_a_weights_file_gives_what_its_run_gives(trained: Path, expect: Verb, capsys: pytest.CaptureFixture[str]):
    weights = f"{RUN}/weights/best-meat.safetensors"
    for name, words in (("a", [RUN, "--track", "meat"]), ("b", [weights, "--config", f"{RUN}/config.yaml"])):
        words += ["--data", "digits", "--split", "test", "--output", f"{name}.npz"]
        assert main(["pseudo-label", *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == read_sealed(Path(f"{name}.json"))
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    assert read_sealed(Path("b.json"))["track"] is None


def test_images_are_read_back_bit_for_bit(tmp_path: Path):
    eight_bits = torch.arange(256).repeat(3)[: 30 * 24].view(30, 2, 3, 4).float() / 255
    fine = torch.rand(5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    for parts, dtype in (([eight_bits], np.uint8), ([eight_bits, fine, eight_bits], np.float32), ([-fine], np.float32)):
        array = ImageArray(100, (2, 3, 4))
        for part in parts:
            array.append(part)
        assert array.array.dtype == dtype
        np.savez(tmp_path / "x.npz", image=array.array)
        assert torch.equal(Npz(path=tmp_path / "x.npz").load(0).train.x, torch.cat(parts))
    array = ImageArray(9, (3,))
    array.append(fine[:, 0, 0, :3])
    assert np.array_equal(array.array, fine[:, 0, 0, :3])


def test_a_target_is_that_of_the_working_folder_and_none_that_came_with_the_run(trained: Path, expect: Verb):
    Path("pictures_of_mine.py").write_text(OWN)
    Path(RUN, "pictures_of_mine.py").write_text("raise AssertionError")
    words = ["--data", '{target: "pictures_of_mine:some", args: {n: 5}}', "--output", "new.npz"]
    assert "train split of pictures_of_mine:some" in expect("pseudo-label", RUN, *words)
    assert read_sealed(Path("new.json"))["dataset"] == {"name": "pictures_of_mine:some", "settings": {"n": 5}}


def saved(name: str, shape: tuple[int, ...] = (8, 8, 8, 1), **labels: np.ndarray) -> None:
    np.savez(name, image=np.zeros(shape, np.uint8), **labels)


BAD = {
    "no data set": (["--data", "dgits"], "override --data: data.name: unknown dataset 'dgits'; did you mean 'digits'"),
    "a list": (["--data", "[digits]"], "--data: expected a data set like '{name: npz, path: FILE}', or its name alone"),
    "training setting": (["--data", "{name: digits, batch_size: 3}"], "override --data: data.batch_size: unknown key"),
    "no file": (["--data", "{name: npz, path: no.npz}"], "override --data: data.path: expected a file, got nothing"),
    "no split": (["--data", "digits", "--split", "extra"], "--split extra: the data set has no extra split; choose"),
    "no images": (["--data", "{name: npz, path: ok.npz}", "--split", "test"], "--data: data, split extra: expected at"),
    "other shape": (["--data", "{name: npz, path: big.npz}"], "expected inputs of shape (1, 8, 8), got (3, 9, 9)"),
    "other classes": (["--data", "{name: npz, path: four.npz}"], "expected 10 classes, as the model has, got 4;"),
    "wrong label": (["--data", "{name: npz, path: wrong.npz}"], "label out of range at example 0: expected -1 to 9"),
    "probability": (["--data", "digits", "--min-confidence", "1"], "--min-confidence 1.0: expected a probability in ["),
    "NaN": (["--data", "digits", "--min-confidence", "nan"], "--min-confidence nan: expected a probability in [0, 1)"),
    "none kept": (["--data", "digits", "--min-confidence", "0.9999999999"], "none of 400 images reaches it, the high"),
    "device": (["--data", "digits", "--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
    "batch size": (["--data", "digits", "--batch-size", "0"], "evaluation.batch_size: expected"),
    "output exists": (["--data", "digits", "--output", "ok.npz"], "ok.npz exists and is never overwritten; choose"),
    "record exists": (["--data", "digits", "--output", "old.npz"], "old.json exists and is never overwritten; choose"),
    "no folder": (["--data", "digits", "--output", "no/x.npz"], "--output no/x.npz: no is no folder; make it first"),
    "no npz": (["--data", "digits", "--output", "x.txt"], "--output x.txt: expected a name that ends in .npz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_error_and_nothing_is_written(name: str, trained: Path, expect: Verb):
    saved("ok.npz")
    saved("big.npz", (4, 9, 9, 3))
    saved("four.npz", label=np.arange(8) % 4)
    saved("wrong.npz", label=np.full(8, 10))
    Path("old.json").touch()
    before = sorted(trained.rglob("*"))
    words, message = BAD[name]
    output = [] if "--output" in words else ["--output", "new.npz"]
    assert message in expect("pseudo-label", RUN, *words, *output, code=2).replace("\n  ", " ")
    assert sorted(trained.rglob("*")) == before


def test_logits_that_are_not_finite_are_no_labels(trained: Path, expect: Verb, monkeypatch: pytest.MonkeyPatch):
    class Broken(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = self.model(x)
            return torch.where(torch.arange(len(x))[:, None] == 17, torch.nan, logits)

    built = subject.build_model
    monkeypatch.setattr(subject, "build_model", lambda *a: (Broken(built(*a)[0]), {}))
    words = ["--data", "digits", "--batch-size", "25", "--output", "new.npz"]
    said = expect("pseudo-label", RUN, *words, code=2).replace("\n  ", " ")
    assert "pseudo-label: the logits of live weights, best (epoch 20) are not finite for image 17" in said
    assert not Path("new.npz").exists()


@pytest.mark.parametrize("place", ["ImageArray", "write_sealed"])
def test_ctrl_c_leaves_nothing(place: str, trained: Path, expect: Verb, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pseudo_labels, place, interrupted)
    words = ["--data", "digits", "--output", "new.npz"]
    assert "stopped by Ctrl-C; nothing was written" in expect("pseudo-label", RUN, *words, code=1)
    assert not list(trained.glob("new*"))
