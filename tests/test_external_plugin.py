"""The example of an outside plugin, as its user meets it: both wheels in a fresh environment, listed, then trained."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "external_plugin"


def run(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Output of a command that must succeed."""
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "BUTTRESS_BACKEND")} | (
        env or {}
    )
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(source: Path, into: Path) -> Path:
    """The wheel of a project, built from a copy, without the compiled extension."""
    into.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", ".*", "build", "dist", "runs")
    names = ("core", "plugins", "configs", "csrc") if source == ROOT else ()
    for folder in names:
        shutil.copytree(source / folder, into / "source" / folder, ignore=ignored)
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith("."):
            (into / "source").mkdir(exist_ok=True)
            shutil.copy(file, into / "source")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--wheel-dir", into)
    env = {"BUTTRESS_EXTENSION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run(sys.executable, "-m", "pip", "wheel", *options, into / "source", cwd=into, env=env)
    (wheel,) = into.glob("*.whl")
    return wheel


@dataclass
class Installed:
    """An environment that holds both wheels, and the wheels."""

    bin: Path
    core_wheel: Path
    plugin_wheel: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("external")
    core, plugin = build_wheel(ROOT, folder / "core"), build_wheel(EXAMPLE, folder / "plugin")
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder)
    binaries = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", binaries / "python", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--quiet", core, plugin, cwd=folder)
    # torch and the other third-party packages come from the running environment: its folders are appended to the path.
    # The .pth files inside those folders are not read, so an editable buttress there stays invisible.
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    asked = run(binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    site = Path(asked.strip())
    (site / "third_party.pth").write_text("\n".join(sorted(here)) + "\n")
    return Installed(binaries, core, plugin)


def test_core_wheel_holds_both_packages_and_no_tests(installed: Installed):
    with ZipFile(installed.core_wheel) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "buttress",
        "buttress_plugins",
        "buttress_recipes",
    }
    assert "buttress/py.typed" in names
    assert {
        f"buttress/authoring/templates/package/{name}.txt" for name in ("pyproject", "readme", "config", "checks")
    } <= {*names}
    assert "buttress/authoring/templates/hooks/adjust_grads.py" in names
    assert "buttress/testing/rules/state.py" in names
    assert "buttress_plugins/attacks/pgd.py" in names
    assert "buttress_recipes/digits/at.yaml" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in Path(name).name]


def test_plugin_wheel_holds_one_module(installed: Installed):
    with ZipFile(installed.plugin_wheel) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert names == ["buttress_centralize.py"]


def test_buttress_comes_from_the_wheel(installed: Installed, tmp_path: Path):
    code = "import buttress, buttress_plugins; print(buttress.__file__); print(buttress_plugins.__file__)"
    for line in run(installed.bin / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(installed.bin.parent)


def test_plugin_is_listed_with_distribution_and_version(installed: Installed, tmp_path: Path):
    rows = json.loads(run(installed.bin / "buttress", "plugins", "list", "--json", cwd=tmp_path))
    (row,) = [row for row in rows if row["name"] == "centralize"]
    assert list(row.values()) == [
        *("plugin", "centralize", "buttress-centralize", "0.1.0"),
        *("buttress_centralize:Centralize", "listed", "adjust_grads"),
    ]
    assert {"buttress", "buttress-centralize"} <= {row["distribution"] for row in rows}


def test_the_recipes_of_the_wheel_are_listed_and_used(installed: Installed, tmp_path: Path):
    rows = json.loads(run(installed.bin / "buttress", "recipes", "list", "--json", cwd=tmp_path))
    found = {row["recipe"].removeprefix("buttress:"): row["summary"] for row in rows}
    files = (ROOT / "configs").rglob("*.yaml")
    assert set(found) == {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in files}
    assert found["digits/at"] == "at on label-noise digits: a fifth of the training labels wrong on purpose."
    assert run(installed.bin / "buttress", "config", "validate", "buttress:digits/at", cwd=tmp_path)


def test_training_run_names_the_distribution(installed: Installed, tmp_path: Path):
    shutil.copy(EXAMPLE / "config.yaml", tmp_path)
    run(
        *(installed.bin / "buttress", "train", "config.yaml", "epochs=2", "data.train_per_class=8"),
        *("evaluation.attack={pgd: {steps: 2}}", "pgd.steps=2"),
        *("--run", "x", "--runs", "out"),
        cwd=tmp_path,
    )
    folder = tmp_path / "out" / "centralized-digits" / "x"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["plugins"]["centralize"]["distribution"] == "buttress-centralize"
    assert manifest["plugins"]["centralize"]["version"] == "0.1.0"
    assert manifest["hooks"]["adjust_grads"] == ["centralize"]
    assert (folder / "summary.json").is_file()


def test_its_own_tests_pass_against_the_wheels(installed: Installed, tmp_path: Path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    assert "passed" in run(installed.bin / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
