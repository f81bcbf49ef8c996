"""``buttress plugins new``: what it makes is built, installed, checked, tested and trained as it is."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from buttress.authoring.scaffold import install_command, new_plugin
from buttress.authoring.targets import subjects_of
from buttress.cli import main
from buttress.errors import PluginError
from buttress.hookspecs import HOOKS
from buttress.testing import examine

from ..docs.blocks import text_of
from ..docs.stage import make_environment
from .conftest import Run


def run(*words: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_the_example_of_a_hook_is_that_of_its_hook_and_keeps_its_promises(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = new_plugin("mine", [hook], tmp_path / "made")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "buttress_mine", raising=False)  # that of another hook
    subjects = subjects_of(str(folder))  # of its pyproject
    kinds = {"generate_adv": ["plugin", "attack"], "log": ["logger"]}.get(hook, ["plugin"])
    assert [subject.kind for subject in subjects] == kinds
    for subject in subjects:
        assert str(subject) == f"{subject.kind} 'mine'"
        assert subject.provides == {hook}
        assert examine(subject).broken == []


def test_a_package_with_every_hook_passes_its_own_tests_and_is_tidy(tmp_path: Path):
    folder = new_plugin("all-of-them", sorted(HOOKS), tmp_path / "made")
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert "passed" in said
    assert "failed" not in said
    ruff = [sys.executable, "-m", "ruff"]
    run(*ruff, "check", "--isolated", "--select", "E,F,I,UP,W", "--line-length", "120", ".", cwd=folder)
    run(*ruff, "format", "--isolated", "--check", "--line-length", "120", ".", cwd=folder)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.mark.parametrize(
    ("kind", "hooks", "checked"),
    [("plugin", "", "my_defense"), ("logger", "--hook log", "buttress-my-defense")],
    ids=["plugin", "logger"],
)
def test_what_is_made_is_installed_tested_listed_checked_and_trained_as_it_says(
    kind: str, hooks: str, checked: str, environment: dict[str, str], workspace: Path
):
    def shell(command: str) -> str:
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    said = shell(f"buttress plugins new my-defense {hooks}")
    install, test, train = (line.strip() for line in said.splitlines() if line.startswith("  "))
    assert install in Path("buttress-my-defense/README.md").read_text()
    tested = shell(f"{install} && {test} -v -k 'not keeps or settings or takes_records'")
    assert ("_keeps[takes_records] PASSED" in tested) == (kind == "logger")  # its promises are those of its kind
    rows = json.loads(shell("buttress plugins list --json"))
    (row,) = [row for row in rows if row["name"] == "my_defense"]
    assert (row["kind"], row["distribution"], row["version"]) == (kind, "buttress-my-defense", "0.1.0")
    assert f"{kind} my_defense (buttress-my-defense 0.1.0" in shell("buttress plugins show my_defense")
    assert " 0 broken" in shell(f"buttress plugins check {checked}")
    shell(f"{train} epochs=1 data.train_per_class=2 pgd.steps=1 evaluation.attack=fgsm --run a")
    ran = yaml.safe_load(Path("runs/digits-my-defense/a/config.yaml").read_text())
    assert "my_defense" in [name for entry in ran[f"{kind}s"] for name in entry]


def test_one_command_installs_a_package_everywhere():
    command = install_command("buttress-my-defense")
    for page in ("tutorial.md", "writing_a_plugin.md"):
        installs = [line for line in text_of(page).splitlines() if line.startswith("pip install") and "my-d" in line]
        assert installs == [command], page


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_no_comment_breaks_a_call_over_lines(hook: str, tmp_path: Path):
    folder = new_plugin("mine", [hook], tmp_path / hook)
    assert not re.search(r"^\s*\)  # ", (folder / "buttress_mine.py").read_text(), flags=re.MULTILINE)


def test_a_logger_may_open_and_close_and_has_no_other_hook(tmp_path: Path):
    for hooks, group in ((["log", "start_run", "end_run"], "loggers"), (["log", "end_epoch"], "plugins")):
        folder = new_plugin("mine", hooks, tmp_path / group)
        points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
        assert points == {f"buttress.{group}": {"mine": "buttress_mine:Mine"}}


@pytest.mark.parametrize(
    ("name", "hooks", "message"),
    [
        ("Mine", [], "expected small letters"),
        ("../mine", [], "expected small letters"),
        ("class", [], "expected small letters"),
        ("meat", [], r"that of a plugin of buttress .*choose another"),
        ("mine", ["adjust_grad"], "not a hook; did you mean 'adjust_grads'"),
    ],
)
def test_a_wrong_name_or_hook_is_refused_and_nothing_is_made(name, hooks, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=message):
        new_plugin(name, hooks)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "there").mkdir()
    assert main(["plugins", "new", "mine", "--output", str(tmp_path / "there")]) == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert not list((tmp_path / "there").iterdir())


def test_lists_can_be_narrowed_to_a_hook(buttress: Run):
    rows = json.loads(buttress("plugins", "list", "--kind", "plugin", "--hook", "adjust_grads", "--json").stdout)
    assert {row["name"] for row in rows} == {"l1", "rat_lr"}
    (l1,) = [row for row in rows if row["name"] == "l1"]
    assert l1["status"] == "ok"
    assert l1["hooks"] == "adjust_grads, start_run"
    assert '"Overfitting in adversarially robust deep learning", arXiv:2002.11569' in l1["paper"]
    assert l1["cost"] == "no passes a step"
    wrong = buttress("plugins", "list", "--hook", "adjust_grad")
    assert wrong.returncode == 2
    assert "did you mean 'adjust_grads'" in wrong.stderr
