"""One function for every path that a user gives: ``~`` is the home folder in commands, configs and settings."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from buttress.cli import main
from buttress.cli.main import buttress
from buttress.cli.options import UserPath
from buttress.components.construct import construct
from buttress.components.place import Place
from buttress.config.file import load_config
from buttress.storage.user_path import user_path
from buttress.training.assembly import check_config

from ..cli.conftest import make_workspace, workspace

__all__ = ["workspace"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, with a config and data in it; the working folder is another one."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    make_workspace(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_home_is_where_it_is_and_other_paths_stay(home: Path):
    assert user_path("~") == home
    assert user_path("~/a b/c.npz") == home / "a b" / "c.npz"
    assert user_path(Path("~/x")) == home / "x"
    for text in ("a/~/b", "~nobody-of-this-name/x", "x~", "/a", "."):
        assert user_path(text) == Path(text)


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from parameters(below)


def test_every_path_of_the_command_line_comes_through_it():
    paths = [each for each in parameters(buttress) if isinstance(each.type, UserPath)]
    assert not [each.name for each in parameters(buttress) if isinstance(each.type, click.Path | click.File)]
    assert len(paths) > 20
    for each in paths:
        assert each.type.convert("~/a", each, None) == user_path("~/a")


def test_every_verb_that_writes_writes_there(home: Path, capsys: pytest.CaptureFixture[str]):
    words = ["plugins=[fgsm]", "data.path=~/small.npz", "epochs=1"]
    assert main(["train", "~/small.yaml", *words, "--runs=~/runs", "--run", "a"]) == 0
    assert main(["evaluate", "~/runs/small/a", "--attack", "fgsm", "--output=~/scores"]) == 0
    assert (
        main(
            ["evaluate", "~/runs/small/a", "--attack=fgsm", "--checkpoint=~/runs/small/a/weights/best-live.safetensors"]
        )
        == 0
    )
    assert main(["report", "~/runs/small/a", "--output=~/page.html"]) == 0
    assert main(["export", "~/runs/small/a", "--output=~/card"]) == 0
    assert main(["plugins", "new", "mine", "--output=~/mine"]) == 0
    weights = "~/runs/small/a/weights/best-live.safetensors"
    again = [*words, "data.path=~/small.npz", f"model.weights={weights}", "--dry-run"]
    assert main(["train", "~/small.yaml", *again]) == 0, capsys.readouterr().err
    for path in ("runs/small/a", "scores", "page.html", "card", "mine"):
        assert (home / path).exists()
    assert list(Path.cwd().iterdir()) == []


def test_a_run_keeps_the_folder_that_was_meant(home: Path):
    resolved = check_config(load_config(Path("~/small.yaml").expanduser(), ["data.path=~/small.npz"])).resolved
    assert resolved["data"]["path"] == str(home / "small.npz")


@pytest.mark.parametrize("name", ["~/modules", "modules"])
def test_the_folder_of_modules_may_be_in_it(name: str, home: Path):
    (home / "modules").mkdir()
    config = yaml.safe_load((home / "small.yaml").read_text())
    (home / "small.yaml").write_text(yaml.safe_dump({**config, "modules": name}))
    assert load_config(home / "small.yaml").modules == home / "modules"


def test_settings_that_are_paths_come_through_it(home: Path):
    def component(*, file: Path, other: Path | None = None, many: list[Path] = [], default: Path = Path("d")) -> object:  # noqa: B006
        return file, other, many, default

    given = {"file": "~/a", "other": "b", "many": ["~/c"]}
    built, resolved = construct(component, given, Place("component"))
    assert built == (home / "a", Path("b"), [home / "c"], Path("d"))
    assert resolved == {"file": str(home / "a"), "other": "b", "many": [str(home / "c")], "default": "d"}


LONG = "x" * 300
COMMANDS = {
    "run": ["resume", LONG],
    "output": ["export", "run", "--output", LONG],
    "output of a report": ["report", "run", "--output", f"{LONG}.html"],
    "runs": ["train", "small.yaml", "--runs", f"a/{LONG}"],
    "name of a run": ["train", "small.yaml", "--run", LONG],
    "config": ["config", "validate", f"{LONG}.yaml"],
    "data": ["config", "validate", "small.yaml", f"data.path={LONG}.npz"],
    "null in a setting": ["config", "validate", "small.yaml", 'data.path="a\\0b"'],
    "weights": ["config", "validate", "small.yaml", f"model.weights={LONG}"],
    "modules": ["config", "validate", "small.yaml", f"modules={LONG}"],
    "file of plugins": ["config", "validate", "small.yaml", f"plugins_file={LONG}.py"],
    "many folders": ["report", "/".join(["y" * 200] * 30)],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_path_that_no_file_can_have_is_one_clear_error(
    words: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert any(word in said for word in ("at most", "null characters", "should match pattern")), said
