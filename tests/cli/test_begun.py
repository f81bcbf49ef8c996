"""A run folder that appeared and was killed before the checkpoint of step 0."""

import shutil
from pathlib import Path

import pytest

from buttress.config.file import load_config
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.training.checkpoint import list_checkpoints
from buttress.training.launch import continue_run, launch, start


def results(folder: RunFolder) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in (folder.metrics, *sorted(folder.weights.iterdir()))}


def test_it_begins_anew_and_says_so_and_the_first_checkpoint_is_that_of_step_0(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    file = load_config(Path("small.yaml"), ["epochs=1", "checkpoint.keep=3"])
    launch(file, Path("runs"), "whole", forecast=False)
    whole = RunFolder(Path("runs/small/whole"))
    assert [path.stem for path in list_checkpoints(whole.checkpoints)] == ["step-00000004", "step-00000000"]
    begun = start(file, Path("runs"), "begun", forecast=False)
    assert begun is not None
    continue_run(begun.folder.path)
    assert "the run ended before its first checkpoint: it begins anew" in capsys.readouterr().out
    assert results(begun.folder) == results(whole)


def test_a_run_that_has_its_checkpoint_of_step_0_alone_goes_on_from_there(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    launch(load_config(Path("small.yaml"), ["epochs=1", "checkpoint.keep=3"]), Path("runs"), "whole", forecast=False)
    folder = RunFolder(Path("runs/small/whole"))
    before = results(folder)
    folder.summary.unlink()
    shutil.rmtree(folder.weights)
    for path in folder.checkpoints.glob("step-00000004.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    continue_run(folder.path)
    assert "resumed step-00000000: epoch 1/1, 0 of its 4 steps done" in capsys.readouterr().out
    assert results(folder) == before
