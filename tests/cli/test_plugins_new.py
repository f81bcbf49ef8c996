"""``buttress plugins new``: what it makes is built, installed, checked, tested and trained as it is."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.authoring.scaffold import install_command, new_plugin
from buttress.authoring.targets import subjects_of
from buttress.cli import main
from buttress.errors import PluginError
from buttress.hookspecs import CHAIN, EXCLUSIVE, HOOKS
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
    subjects = subjects_of(str(folder))  # of its pyproject
    kinds = {"generate_adv": ["plugin", "attack"], "log": ["logger"]}.get(hook, ["plugin"])
    assert [subject.kind for subject in subjects] == kinds
    for subject in subjects:
        assert str(subject) == f"{subject.kind} 'mine'"
        assert subject.provides == {hook}
        assert examine(subject).broken == []


@pytest.mark.parametrize("hook", sorted(EXCLUSIVE))
def test_the_example_of_a_wrapper_wraps_its_hook_and_keeps_its_promises(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = new_plugin("mine", output=tmp_path / "made", wraps=[hook])
    (subject,) = subjects_of(str(folder))
    assert (subject.kind, subject.provides, subject.wraps) == ("plugin", set(), {hook})
    assert examine(subject).broken == []
    assert ("  - rwp\n" in (folder / "config.yaml").read_text()) == (hook == "perturb_weights")  # it needs a provider


@pytest.mark.parametrize(
    "options",
    [
        {"hooks": sorted(HOOKS)},
        {"hooks": sorted(CHAIN - {"log"}), "wraps": sorted(EXCLUSIVE)},
        {"kind": "model"},
        {"kind": "dataset"},
    ],
    ids=["hooks", "wrappers", "model", "dataset"],
)
def test_a_package_passes_its_own_tests_and_is_tidy(options: dict[str, Any], tmp_path: Path):
    folder = new_plugin("all-of-them", output=tmp_path / "made", **options)
    expect_tests_pass(folder)
    expect_tidy(folder)


def expect_tests_pass(folder: Path) -> None:
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert "passed" in done
    assert "failed" not in done


def expect_tidy(folder: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    run(*ruff, "check", "--isolated", "--select", "E,F,I,UP,W", "--line-length", "120", ".", cwd=folder)
    run(*ruff, "format", "--isolated", "--check", "--line-length", "120", ".", cwd=folder)


@pytest.mark.parametrize(("kind", "replaced"), [("model", "model"), ("dataset", "data")])
def test_a_model_or_a_data_set_is_what_its_config_names(
    kind: str, replaced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = new_plugin(f"my-{kind}", kind=kind, output=tmp_path / "made")
    target = f"buttress_my_{kind}:My{kind.capitalize()}"
    points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points == {f"buttress.{kind}s": {f"my_{kind}": target}}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config[replaced].pop("name") == f"my_{kind}"
    settings = config[replaced]
    section = {"target": target, "args": {} if kind == "model" else {"per_class": 8}, **settings}
    small = {"epochs": 1, "plugins": ["fgsm"], "evaluation": {"attack": "fgsm", "best_by": "test"}}
    if kind == "model":
        small["data"] = {"name": "digits", "train_per_class": 4}
    (folder / "small.yaml").write_text(yaml.safe_dump({**config, replaced: section, **small}))
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(folder / "small.yaml"), "--run", "a"]) == 0  # nothing is installed


@pytest.mark.parametrize("layout", ["modules", "src", "flat"])
def test_a_plugin_is_added_to_a_package_that_exists(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "there"
    if layout == "modules":
        new_plugin("first", output=folder)
    else:
        package = folder / ("src/pkg" if layout == "src" else "pkg")
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (folder / "pyproject.toml").write_text('[project]\nname = "pkg"\nversion = "2"  # kept\n')
    before = tomllib.loads((folder / "pyproject.toml").read_text())
    assert new_plugin("added-one", ["generate_adv"], into=folder) == folder
    after = tomllib.loads((folder / "pyproject.toml").read_text())
    module = "buttress_added_one" if layout == "modules" else "pkg.added_one"
    for group in ("buttress.plugins", "buttress.attacks"):
        assert after["project"]["entry-points"][group].pop("added_one") == f"{module}:AddedOne"
    if layout == "modules":
        assert after["tool"]["setuptools"]["py-modules"] == ["buttress_first", "buttress_added_one"]
        assert (
            after["project"]["entry-points"]["buttress.plugins"]
            == before["project"]["entry-points"]["buttress.plugins"]
        )
        expect_tidy(folder)
    else:
        assert "# kept" in (folder / "pyproject.toml").read_text()
    plugin, attack = subjects_of(str(folder), only=["added_one"])
    assert [str(plugin), str(attack)] == ["plugin 'added_one'", "attack 'added_one'"]
    monkeypatch.setenv("PYTHONPATH", str(folder / "src" if layout == "src" else folder))
    expect_tests_pass(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"pyproject.toml: cannot be read: .*--into expects the folder of a package"),
        ({"pyproject.toml": "[tool.x]\n"}, r"has no \[project\] with a name"),
        ({"pyproject.toml": "[project]\nname = 'a'\n"}, "expected one package .* got none"),
        (
            {"pyproject.toml": "[project]\nname = 'a'\n", "a/__init__.py": "", "b/__init__.py": ""},
            "expected one package .* got a, b;",
        ),
        (
            {"pyproject.toml": "[project]\nname = 'a'\ndynamic = ['entry-points']\n", "a/__init__.py": ""},
            "its entry points are dynamic",
        ),
        (
            {
                "pyproject.toml": "[project]\nname = 'a'\nentry-points = {'buttress.plugins' = {b = 'a:B'}}\n",
                "a/__init__.py": "",
            },
            r"cannot be extended; write \[project.entry-points.\"buttress.plugins\"\] with mine = \"a.mine:Mine\"",
        ),
        (
            {
                "pyproject.toml": "[project]\nname = 'a'\n[project.entry-points.'buttress.plugins']\nmine = 'a:B'\n",
                "a/__init__.py": "",
            },
            "names 'mine' in 'buttress.plugins' already",
        ),
        ({"pyproject.toml": "[project]\nname = 'a'\n", "a/__init__.py": "", "a/mine.py": ""}, "mine.py exists"),
    ],
)
def test_a_package_of_another_form_is_refused_and_left_as_it_was(files: dict[str, str], message: str, tmp_path: Path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(PluginError, match=message):
        new_plugin("mine", into=tmp_path)
    there = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"wraps": ["adjust_grads"]},
            "'adjust_grads' cannot be wrapped: only compute_loss, .* use --hook adjust_grads",
        ),
        ({"wraps": ["compute_los"]}, "not a hook; did you mean 'compute_loss'"),
        ({"wraps": ["compute_loss"], "hooks": ["compute_loss"]}, "choose --hook or --wrap"),
        ({"kind": "model", "hooks": ["log"]}, "a model has no hooks"),
        ({"into": Path("a"), "output": Path("b")}, "choose one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=message):
        new_plugin("mine", **options)
    assert not list(tmp_path.iterdir())


def test_the_command_adds_and_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = new_plugin("first", output=tmp_path / "there")
    assert main(["plugins", "new", "second-one", "--wrap", "compute_loss", "--into", str(folder)]) == 0
    assert f'pytest "{folder / "tests" / "test_second_one.py"}"' in capsys.readouterr().out
    assert (folder / "buttress_second_one.py").exists()


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
    narrowed = ["plugins", "list", "--kind", "plugin", "--hook", "adjust_grads", "--json"]
    rows = json.loads(buttress(*narrowed).stdout)
    assert {row["name"]: row["status"] for row in rows} == dict.fromkeys(
        ["clip_grad", "free_at", "l1", "rat_lr"], "listed"
    )
    (l1,) = [row for row in json.loads(buttress(*narrowed, "--check").stdout) if row["name"] == "l1"]
    assert l1["status"] == "ok"
    assert l1["hooks"] == "adjust_grads, start_run"
    assert '"Overfitting in adversarially robust deep learning", arXiv:2002.11569' in l1["paper"]
    assert l1["cost"] == "no passes a step"
    wrong = buttress("plugins", "list", "--hook", "adjust_grad")
    assert wrong.returncode == 2
    assert "did you mean 'adjust_grads'" in wrong.stderr
