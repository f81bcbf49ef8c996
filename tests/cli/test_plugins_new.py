"""``buttress plugins new``: what it makes is built, installed, checked, tested and trained as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buttress.authoring.scaffold import new_plugin
from buttress.authoring.targets import subjects_of
from buttress.cli import main
from buttress.errors import PluginError
from buttress.hookspecs import HOOKS
from buttress.testing import examine

from .conftest import Run


def run(*words: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Output of a command that must succeed; ``path`` comes first on Python's."""
    before = os.environ.get("PYTHONPATH", "")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": f"{path}{os.pathsep}{before}" if path else before,
    }
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
    assert [subject.kind for subject in subjects] == (["plugin", "attack"] if hook == "generate_adv" else ["plugin"])
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


def test_a_new_plugin_is_built_installed_listed_checked_and_trained(tmp_path: Path, workspace: Path):
    made = json.loads(run(sys.executable, "-c", _NEW, cwd=workspace))
    assert made == "buttress-my-defense"
    folder, site = workspace / made, tmp_path / "site"
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", site)
    run(sys.executable, "-m", "pip", "install", *options, folder, cwd=workspace)
    buttress = (sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())")
    rows = json.loads(run(*buttress, "plugins", "list", "--json", cwd=workspace, path=site))
    (row,) = [row for row in rows if row["name"] == "my_defense"]
    assert (row["distribution"], row["version"]) == ("buttress-my-defense", "0.1.0")
    assert "0 broken" in run(*buttress, "plugins", "check", "my_defense", cwd=workspace, path=site)
    words = ("epochs=1", "data.train_per_class=2", "pgd.steps=1", "evaluation.attack=fgsm", "--run", "a")
    said = run(*buttress, "train", folder / "config.yaml", *words, cwd=workspace, path=site)
    assert "adjust_grads: my_defense" in said


_NEW = """
import contextlib, io, json
from buttress.cli import main
said = io.StringIO()
with contextlib.redirect_stdout(said):
    assert main(["plugins", "new", "my-defense"]) == 0
print(json.dumps(said.getvalue().split()[1].rstrip(";")))
"""


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
    assert l1["cost"] == "no passes"
    wrong = buttress("plugins", "list", "--hook", "adjust_grad")
    assert wrong.returncode == 2
    assert "did you mean 'adjust_grads'" in wrong.stderr
