"""Runs whose extra examples are mapped from files: configs, exact resume, processes, and labels of another run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from buttress.storage.seals import read_sealed

from .conftest import Verb, stopped_at
from .test_resume import fingerprint

EXTRA: dict[str, Any] = {"file": "edm.npz", "share": 0.7, "labels": "given", "replacement": True}


@pytest.fixture
def edm(workspace: Path) -> Path:
    """``edm.npz``, 50 images with labels, and ``small.yaml`` with 70 % of each batch from it."""
    rng = np.random.default_rng(7)
    np.savez("edm.npz", image=rng.integers(0, 256, (50, 8, 8, 1), dtype=np.uint8), label=np.arange(50) % 4)
    write(EXTRA)
    return workspace / "edm.npz"


def write(extra: Any) -> None:
    """``small.yaml`` with these extra examples."""
    config: dict[str, Any] = yaml.safe_load(Path("small.yaml").read_text())
    config["data"]["extra"] = extra
    config |= {"plugins": [{"pgd": {"steps": 1}}], "epochs": 2}
    Path("small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def resolved(run: str) -> Any:
    return yaml.safe_load(Path(f"runs/small/{run}/config.yaml").read_text())["data"]["extra"]


SAME = ("metrics.jsonl", "weights/last-live.safetensors")
MAPPED = {
    "name": "mapped", "share": "7/10", "replacement": True, "file": "edm.npz", "labels": "given", "label_file": None,
    "num_classes": None, "layout": "nhwc", "cache": None,
}  # fmt: skip


@pytest.mark.parametrize("replacement", [True, False])
def test_a_stopped_run_goes_on_in_the_middle_of_an_epoch_as_if_it_had_never_stopped(
    edm: Path, expect: Verb, replacement: bool
):
    write({**EXTRA, "replacement": replacement})
    expect("train", "small.yaml", "--run", "whole")
    for step in (1, 6):
        with stopped_at(step):
            expect("train", "small.yaml", "--run", f"at-{step}", code=1)
        expect("resume", f"runs/small/at-{step}")
        assert fingerprint(Path(f"runs/small/at-{step}")) == fingerprint(Path("runs/small/whole"))
    assert resolved("whole") == {**MAPPED, "replacement": replacement}
    data = read_sealed(Path("runs/small/whole/manifest.json"))["data"]
    assert data["splits"] == {"train": 40, "validation": 20, "test": 20, "extra": 50}
    assert "are equal, to the last bit" in expect("reproduce", "runs/small/whole", "--run", "again")


def test_the_file_gives_the_run_that_it_gives_when_it_is_read_into_memory(edm: Path, expect: Verb):
    with np.load("edm.npz") as file:
        np.savez_compressed("small-edm.npz", **file)
        np.save("i.npy", file["image"])
        np.save("l.npy", file["label"])
    sources = {
        "memory": {"name": "npz", "path": "edm.npz"},
        "stored": {"file": "edm.npz"},
        "compressed": {"file": "small-edm.npz"},
        "pair": {"file": "i.npy", "label_file": "l.npy"},
    }
    for name, source in sources.items():
        write({**source, "share": "7/10"})
        expect("train", "small.yaml", "--run", name)
        files, expected = (fingerprint(Path(f"runs/small/{run}"))["files"] for run in (name, "memory"))
        assert {key: files[key] for key in SAME} == {key: expected[key] for key in SAME}


def test_several_files_train_and_continue_exactly(edm: Path, expect: Verb):
    shutil.copy("edm.npz", "second.npz")
    write([{**EXTRA, "share": "1/3"}, {"file": "second.npz", "share": "1/4", "replacement": False}])
    expect("train", "small.yaml", "--run", "whole")
    with stopped_at(3):
        expect("train", "small.yaml", "--run", "parts", code=1)
    expect("resume", "runs/small/parts")
    assert fingerprint(Path("runs/small/parts")) == fingerprint(Path("runs/small/whole"))
    assert [each["name"] for each in resolved("whole")] == ["mapped", "mapped"]


def test_a_changed_file_is_refused(edm: Path, expect: Verb):
    with stopped_at(5):
        expect("train", "small.yaml", "--run", "a", "evaluation.every=1", code=1)
    with np.load("edm.npz") as file:
        np.savez("edm.npz", image=file["image"] ^ 1, label=file["label"])
    for verb in ("resume", "reproduce", "evaluate"):
        assert "extra has other inputs" in expect(verb, "runs/small/a", code=2)


def test_a_file_lies_beside_the_config(edm: Path, expect: Verb, monkeypatch: pytest.MonkeyPatch):
    elsewhere = edm.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    expect("train", "../small.yaml", "--run", "a", "epochs=1")
    expect("resume", "runs/small/a")
    edm.unlink()
    said = expect("train", "../small.yaml", "--dry-run", code=2)
    assert "data.extra.file: expected a file, got nothing: " in said


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({**EXTRA, "labels": "guessed"}, "data.extra.labels: expected 'given', 'pseudo' or 'none', got 'guessed'"),
        ({**EXTRA, "lables": "given"}, "data.extra.lables: unknown key; did you mean 'labels'?"),
        ({**EXTRA, "labels": "none"}, "data.extra: it holds examples without a label, which plugin 'pgd'"),
        (
            {**EXTRA, "labels": "pseudo"},
            "edm.npz: expected labels of buttress pseudo-label, with their record in edm.jso",
        ),
        ({**EXTRA, "layout": "nchw"}, "data, split extra: expected inputs of shape (1, 8, 8), got (8, 8, 1)"),
        ({**EXTRA, "cache": "nowhere", "file": "packed.npz"}, "nowhere: expected a folder to unpack"),
        (
            [EXTRA, {**EXTRA, "share": "1/4", "file": "wrong.npz"}],
            "source 2: label out of range at example 3: expected -1",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_is_written(edm: Path, expect: Verb, extra: Any, message: str):
    with np.load("edm.npz") as file:
        np.savez_compressed("packed.npz", **file)
        np.savez("wrong.npz", image=file["image"][:4], label=np.array([0, 1, 2, 4]))
    write(extra)
    said = expect("train", "small.yaml", "--run", "a", code=2).replace("\n  ", " ")
    assert message in said, said
    assert not Path("runs").exists()


def test_a_run_labels_the_images_of_a_file_for_another_one(edm: Path, expect: Verb):
    with np.load("edm.npz") as file:
        images = file["image"]
    np.savez("edm.npz", image=images)
    write(EXTRA)
    expect("train", "small.yaml", "--run", "teacher", "data.extra=null")
    said = expect("train", "small.yaml", "--run", "student", code=2)
    assert "buttress pseudo-label RUN --data '{name: mapped" in said.replace("\n  ", " ")
    words = ["pseudo-label", "runs/small/teacher", "--data", "{name: mapped, file: edm.npz, labels: none}"]
    expect(*words, "--output", "edm.pseudo.npy")
    expect(*words, "--output", "both.npz")
    labels = np.load("edm.pseudo.npy")
    assert (labels.dtype, labels.shape) == (np.int16, (50,))
    with np.load("both.npz") as file:
        assert np.array_equal(labels, file["label"])
        assert np.array_equal(images, file["image"])
    record = read_sealed(Path("edm.pseudo.json"))
    assert (record["dtype"], record["all"]["kept"], record["dataset"]["name"]) == ("int16", 50, "mapped")
    for name, file in (("a", "edm.npz"), ("b", "both.npz")):
        write({**EXTRA, "labels": "pseudo", "file": file})
        expect("train", "small.yaml", "--run", name)
    assert fingerprint(Path("runs/small/a")) == fingerprint(Path("runs/small/b"))
    limit = record["confidence"]["0.5"]
    expect(*words, "--min-confidence", str(limit), "--output", "sure.npy")
    sure = np.load("sure.npy")
    assert 0 < int((sure == -1).sum()) < 50
    assert np.array_equal(sure[sure >= 0], labels[sure >= 0])
