"""The plan of the house: its layers, checked by import-linter, and the number of modules outside every room."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import buttress

CORE = Path(buttress.__file__).parent
ROOT = Path(__file__).parents[2]
CONTRACTS, PAGE = ROOT / "pyproject.toml", ROOT / "docs" / "architecture.md"
LINTER = Path(sys.executable).with_name("lint-imports")

MOST_MODULES = 17
"""Modules directly in the package: the author's shelf and the ground. Everything else has a room."""

MOST_LINES = 320
"""Lines of a Python file of the core and of the built-in plugins; a longer one holds more than one subject."""


def lint(root: Path) -> tuple[int, str]:
    """Exit code and output of the contracts, held over the package ``buttress`` in the folder ``root``."""
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(
        [LINTER, "--no-cache", "--no-logo", CONTRACTS], capture_output=True, text=True, cwd=root, env=environment
    )
    return done.returncode, done.stdout


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package, to plant imports in."""
    shutil.copytree(CORE, tmp_path / "buttress", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def plant(house: Path, module: str, line: str) -> None:
    path = house.joinpath(*module.split(".")).with_suffix(".py")
    path.write_text(path.read_text(encoding="utf-8") + f"\n\ndef planted():\n    {line}\n", encoding="utf-8")


def test_the_layers_hold_and_no_files_import_one_another_in_a_circle():
    code, output = lint(CORE.parent)
    assert code == 0, output


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("buttress.storage.files", "import buttress.training.trainer", "buttress.storage is not allowed to import"),
        ("buttress.report.run", "import buttress.comparing.board", "buttress.report is not allowed to import"),
        ("buttress.types", "from buttress import cli", "buttress.types is not allowed to import buttress.cli"),
    ],
    ids=["upwards", "sideways", "from the ground to the roof"],
)
def test_an_import_against_the_layers_is_named(house: Path, module: str, line: str, expected: str):
    plant(house, module, line)
    code, output = lint(house)
    assert code == 1
    assert expected in output
    assert f"{module} -> buttress." in output


def test_a_circle_of_files_is_named(house: Path):
    plant(house, "buttress.storage.files", "import buttress.storage.seals")
    code, output = lint(house)
    assert code == 1
    assert "No import runs upwards, and rooms of one layer do not import one another KEPT" in output
    assert ".seals -> .files" in output


def test_a_room_that_no_layer_names_is_refused(house: Path):
    (house / "buttress" / "attic.py").write_text('"""Nobody knows where this belongs."""\n')
    code, output = lint(house)
    assert code == 1
    assert "buttress.attic" in output


def test_the_page_on_the_architecture_draws_the_layers_of_the_contract():
    contracts = tomllib.loads(CONTRACTS.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["id"] == "layers")
    drawing = PAGE.read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    assert ["__main__", *(line.partition("  ")[0] for line in drawing.splitlines())] == layers


def test_few_modules_lie_outside_every_room():
    assert len(list(CORE.glob("*.py"))) <= MOST_MODULES


def test_no_file_is_long():
    files = [path for folder in ("core", "plugins") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(lengths) > 300
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
