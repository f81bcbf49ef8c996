"""A file that a setting names is part of the run: it may not be another one when the run goes on."""

import json
from pathlib import Path

import pytest
import yaml

from buttress.errors import RunFolderError
from buttress.storage.run_folder import RunFolder
from buttress.training.named_files import expect_same_files, named_files

from .conftest import CONFIG, Run

TEACHER = '''
from pathlib import Path

import torch
from buttress import hookimpl


class Distill:
    """Reads a teacher.

    Args:
        teacher: a file of weights.
        more: others.
        other: as text.
    """

    def __init__(self, *, teacher: Path, more: list[Path] = [], other: str = "none") -> None:
        self.teacher = torch.load(teacher, weights_only=True)

    @hookimpl
    def end_epoch(self): ...
'''


@pytest.fixture
def started(buttress: Run, workspace: Path) -> Path:
    """A finished run that has read ``teachers/one.pt``, ``two.pt`` and ``three.pt``."""
    import torch

    (workspace / "teachers").mkdir()
    for name in ("one", "two", "three"):
        torch.save({"w": torch.ones(2)}, workspace / "teachers" / f"{name}.pt")
    (workspace / "mine.py").write_text(TEACHER)
    settings = {"teacher": "teachers/one.pt", "more": ["teachers/two.pt"], "other": "teachers/three.pt"}
    plugins = [{"pgd": {"steps": 1}}, {"distill": settings}]
    config = {**CONFIG, "epochs": 1, "plugins_file": "mine.py", "plugins": plugins}
    (workspace / "own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = buttress("train", "own.yaml", "--run", "a", "--runs", "out")
    assert done.returncode == 0, done.stderr
    return workspace / "out" / "small" / "a"


def test_a_teacher_that_was_swapped_stops_the_run(
    buttress: Run, workspace: Path, started: Path, monkeypatch: pytest.MonkeyPatch
):
    recorded = json.loads((started / "manifest.json").read_text())["files"]
    places = ["plugins.distill.more.0", "plugins.distill.other", "plugins.distill.teacher"]
    assert sorted(recorded) == places
    assert recorded["plugins.distill.teacher"]["file"] == str((workspace / "teachers" / "one.pt").resolve())
    monkeypatch.chdir(workspace)
    expect_same_files(RunFolder(started))
    for name, place in (("two", "more.0"), ("three", "other"), ("one", "teacher")):
        path, what = workspace / "teachers" / f"{name}.pt", f"plugins.distill.{place} is teachers/{name}.pt, and "
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(RunFolderError, match=rf"{what}there is no such file; it was {path}: put it back, or go to"):
            expect_same_files(RunFolder(started))
        path.write_bytes(kept + b"x")
        with pytest.raises(
            RunFolderError, match=rf"{what}teachers/{name}\.pt has been changed since the run was started"
        ):
            expect_same_files(RunFolder(started))
        if name != "one":
            path.write_bytes(kept)
    for verb in ("resume", "reproduce"):
        done = buttress(verb, str(started))
        assert done.returncode == 2, done.stdout
        assert "plugins.distill.teacher is teachers/one.pt, and teachers/one.pt has been changed" in done.stderr


def test_only_texts_that_name_files_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("uniform", "weights.pt", "data.npz"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.d").mkdir()
    found = named_files(
        {
            "model": {"name": "preact_tiny", "weights": {"file": "weights.pt", "except": ["a.*"]}},
            "data": {"path": "data.npz"},
            "plugins": [{"pgd": {"start": "uniform", "step_size": "1/4"}}, {"mine": {"folder": "folder.d", "x": None}}],
            "evaluation": {"attack": {"mine": {"a": ["./weights.pt", "x" * 5000 + ".pt", "a\0.pt", "no.pt"]}}},
        }
    )
    assert list(found) == ["model.weights.file", "evaluation.attack.mine.a.0"]
    assert found["model.weights.file"]["text"] == "weights.pt"


def test_weights_to_start_from_are_those_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_text("another")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "weights.pt").write_text("these")
    resolved = {"folder": str(tmp_path / "configs"), "model": {"weights": "weights.pt"}}
    files = named_files(resolved)
    assert files["model.weights"]["file"] == str((tmp_path / "configs" / "weights.pt").resolve())
    folder = RunFolder(tmp_path / "run")
    folder.create("", {"files": files})
    expect_same_files(folder)
    (tmp_path / "configs" / "weights.pt").write_text("others")
    with pytest.raises(RunFolderError, match=r"model\.weights is .*configs/weights\.pt has been changed"):
        expect_same_files(folder)


def test_a_run_of_before_goes_on_without_a_record(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.create("", {})
    expect_same_files(folder)
    folder.manifest.write_text("{}")
    expect_same_files(folder)
