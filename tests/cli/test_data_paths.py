"""Relative paths of the data: beside the config, then in the working folder; those of the command line where it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from buttress.config.file import load_config
from buttress.errors import ConfigError
from buttress.training.assembly import check_config
from buttress.training.dataset import load_data
from buttress.training.launch import continue_run, launch

from .conftest import make_workspace

Brightness = Callable[[str], float]


def write(path: Path, level: float) -> None:
    """An ``.npz`` file whose every pixel has one level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"x_{split}"] = np.full((8, 1, 8, 8), level, np.float32)
        arrays[f"y_{split}"] = np.arange(8) % 4
    np.savez(path, **arrays)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``project/small.yaml``, with ``path: small.npz``; the working folder is ``elsewhere``."""
    for name in ("project", "elsewhere"):
        (tmp_path / name).mkdir()
    make_workspace(tmp_path / "project")
    (tmp_path / "project" / "small.npz").unlink()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project" / "small.yaml"


def level(config: Path, *overrides: str) -> float:
    return float(load_data(load_config(config, overrides))[0].train.x[0, 0, 0, 0])


def test_a_path_in_the_file_lies_beside_it_or_in_the_working_folder(config: Path):
    write(Path("small.npz"), 0.25)
    assert level(config) == 0.25
    write(config.with_name("small.npz"), 0.75)
    assert level(config) == 0.75
    write(config.parent / "data" / "deep.npz", 0.5)
    config.write_text(config.read_text().replace("small.npz", "data/deep.npz"))
    assert level(config) == 0.5
    config.write_text(config.read_text().replace("data/deep.npz", str(Path("small.npz").resolve())))
    assert level(config) == 0.25


def test_a_path_of_the_command_line_lies_in_the_working_folder(config: Path):
    write(Path("small.npz"), 0.25)
    write(config.with_name("small.npz"), 0.75)
    write(config.with_name("other.npz"), 0.5)
    assert level(config, "data.path=small.npz") == 0.25
    assert level(config, "data={name: npz, path: small.npz}") == 0.25
    assert level(config, "data.path=../project/other.npz") == 0.5
    with pytest.raises(ConfigError, match=r"which was looked up in \S*/elsewhere$"):
        level(config, "data.path=other.npz")


def test_a_missing_file_is_named_with_its_folder_and_where_it_was_looked_up(config: Path):
    with pytest.raises(ConfigError) as refused:
        level(config)
    project, here = config.parent, Path.cwd()
    assert str(refused.value) == (
        f"{config}:4: data.path: expected a file, got nothing: {project}/small.npz does not exist; path is small.npz, "
        f"which was looked up in {project} and in {here}"
    )


@pytest.mark.parametrize("overrides", [[], ["data.path=small.npz"]])
def test_a_run_finds_its_data_from_anywhere(config: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]):
    write(Path("small.npz") if overrides else config.with_name("small.npz"), 0.75)
    launch(load_config(config, ["epochs=1", *overrides]), Path("runs"), "a")
    run = Path("runs/small/a").resolve()
    monkeypatch.chdir(config.parent.parent)
    continue_run(run)
    assert level(run / "config.yaml") == 0.75
    again = check_config(load_config(run / "config.yaml")).resolved
    assert again == yaml.safe_load((run / "config.yaml").read_text())


def test_a_run_finds_data_that_moved_to_the_working_folder(config: Path, monkeypatch: pytest.MonkeyPatch):
    write(config.with_name("small.npz"), 0.75)
    launch(load_config(config, ["epochs=1"]), Path("runs"), "a")
    run = Path("runs/small/a").resolve()
    moved = config.parent.parent / "moved"
    moved.mkdir()
    shutil.move(config.with_name("small.npz"), moved)
    monkeypatch.chdir(moved)
    continue_run(run)


def test_a_config_may_name_the_folder(config: Path):
    write(config.parent / "data" / "small.npz", 0.5)
    assert level(config, "folder=data") == 0.5
    config.write_text(config.read_text() + "folder: data\n")
    assert level(config) == 0.5


OWN = '''
from pathlib import Path

import torch

from buttress import Data, Split


class Levels:
    """One level.

    Args:
        path: a text file.
    """

    def __init__(self, *, path: Path | None = None) -> None:
        self.level = float(path.read_text())

    def load(self, seed: int) -> Data:
        split = Split(torch.full((8, 1, 8, 8), self.level), torch.arange(8) % 4)
        return Data(split, split, 4, split)
'''


def test_a_path_of_a_data_set_of_ones_own_is_looked_up_alike(config: Path):
    config.with_name("own_levels.py").write_text(OWN)
    config.with_name("level.txt").write_text("0.5")
    text = yaml.safe_load(config.read_text())
    text["data"] = {"target": "own_levels:Levels", "args": {"path": "level.txt"}}
    config.write_text(yaml.safe_dump(text))
    assert level(config) == 0.5
    Path("level.txt").write_text("0.25")
    assert level(config, "data.args.path=level.txt") == 0.25
