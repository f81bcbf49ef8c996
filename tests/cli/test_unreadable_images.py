"""An image that cannot be read: the data are blamed, nothing that was trained is lost, and the run can go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.cli import main
from buttress.storage.run_folder import RunFolder
from buttress.training.trainer import Trainer

from ..photo_folder import write_photos

CONFIG: dict[str, Any] = {
    "name": "photos",
    "data": {"name": "image_folder", "root": "photos", "size": 8, "validation": 4, "batch_size": 4, "workers": 0},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "8/255"},
    "plugins": ["fgsm", {"meat": {"start": 0}}],
    "optimizer": {"lr": 0.1},
    "epochs": 3,
    "evaluation": {"attack": "fgsm"},
    "log_every": 1,
}

Verb = Callable[..., str]


@pytest.fixture
def expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb beside ``photos.yaml`` and the images in ``photos/``; it has to end with ``code``."""
    write_photos(tmp_path / "photos", {"train": 8, "test": 3})
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        found = main(list(words))
        said = "".join(capsys.readouterr())
        assert found == code, said
        return said

    return run


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("file", ["train/cat/0.png", "train/cat/1.png", "train/coffee/7.png", "test/coffee/2.png"])
def test_a_file_that_is_no_image_leaves_no_run_folder(expect: Verb, file: str):
    Path("photos", file).write_bytes(b"no image")
    said = expect("train", "photos.yaml", code=2)
    assert f"photos/{file} cannot be read: cannot identify image file" in said
    assert "model" not in said.partition("error: ")[2]
    assert not Path("runs").exists()


@pytest.mark.parametrize("file", ["train/cat/0.png", "train/cat/1.png"])
def test_the_two_images_that_a_model_is_tried_on_are_blamed_on_the_data(expect: Verb, file: str):
    truncate(Path("photos", file))
    said = expect("train", "photos.yaml", "data.validation=0", "evaluation.best_by=test", code=2)
    path = Path("photos", file).absolute()
    assert f"photos.yaml:2: data: image_folder: {path} cannot be read: image file is truncated" in said
    assert "model" not in said.partition("error: ")[2]
    assert not Path("runs").exists()


def break_at(monkeypatch: pytest.MonkeyPatch, step: int, path: Path) -> bytes:
    """A file is cut short while a run is before that global step; returns its content."""
    content, asked = path.read_bytes(), Trainer._stop_if_asked

    def stop(trainer: Trainer) -> None:
        if trainer._engine.global_step == step:
            path.write_bytes(content[:-30])
        asked(trainer)

    monkeypatch.setattr(Trainer, "_stop_if_asked", stop)
    return content


def results(run: str) -> dict[str, bytes]:
    folder = RunFolder(Path(run))
    return {path.name: path.read_bytes() for path in (folder.metrics, *sorted(folder.weights.iterdir()))}


@pytest.mark.parametrize(("file", "step"), [("train", 1), ("train", 4), ("test", 1), ("test", 4), ("test", 8)])
def test_a_run_goes_on_when_the_image_is_put_back(expect: Verb, monkeypatch: pytest.MonkeyPatch, file: str, step: int):
    expect("train", "photos.yaml", "--run", "whole")
    shutil.copytree("photos", "before")
    with monkeypatch.context() as patch:
        for path in Path("photos", file).rglob("*.png"):
            break_at(patch, step, path)
        said = expect("train", "photos.yaml", "--run", "a", code=1)
    assert "cannot be read" in said
    assert "continue with: buttress resume runs/photos/a; with a repaired one, start a new run" in said
    assert "was started with other data" in expect("resume", "runs/photos/a", code=2)
    shutil.rmtree("photos")
    shutil.move("before", "photos")
    assert ("resumed step-00000000" in expect("resume", "runs/photos/a")) == (file == "test" and step == 1)
    assert results("runs/photos/a") == results("runs/photos/whole")


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(expect: Verb):
    expect("train", "photos.yaml", "--run", "a", "checkpoint.every=2")
    whole, folder = results("runs/photos/a"), RunFolder(Path("runs/photos/a"))
    folder.summary.unlink()
    for path in folder.checkpoints.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "no checkpoint can be loaded: there is none" in expect("resume", "runs/photos/a", code=2)  # somebody did it
    assert results("runs/photos/a") == whole
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    after_two = next(n for n, line in enumerate(lines) if b'"epoch": 3' in line)
    folder.metrics.write_bytes(b"".join(lines[:after_two]))
    (folder.checkpoints / "step-00000003.safetensors").write_bytes(b"unfinished")
    assert "it begins anew" in expect("resume", "runs/photos/a")
    assert results("runs/photos/a") == whole
