"""Who imports whom: nothing heavy before it is asked for, and never against the direction of the layers."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import buttress
import buttress_plugins

CORE = Path(buttress.__file__).parent
PLUGINS = Path(buttress_plugins.__file__).parent


def modules_after(code: str) -> set[str]:
    """The modules that a fresh process holds after ``code``."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name == "torch" or name.startswith("buttress_plugins")}


@pytest.mark.parametrize(
    "code",
    [
        "import buttress",
        "from buttress import hookimpl, __version__",
        "import buttress.hookspecs",
        "import buttress.config.file",
        "from buttress.components.sources import GROUPS, sources; [sources(kind) for kind in GROUPS]",
        "from buttress.components.sources import find; find('plugin', 'pgd')",
        "from buttress.config.recipes import recipes; recipes()",
    ],
)
def test_names_lists_and_configs_load_no_torch_and_no_plugin(code: str):
    assert heavy(modules_after(code)) == set()


@pytest.mark.parametrize("module", ["engine.engine", "training.trainer"])
def test_the_core_loads_no_plugin_module(module: str):
    found = modules_after(f"import buttress.{module}")
    assert "torch" in found
    assert heavy(found) == {"torch"}


def test_a_chosen_plugin_is_loaded_and_no_other():
    found = modules_after("from buttress.components.loaded import load_plugins; load_plugins(['clean'])")
    assert {name for name in heavy(found) if name.count(".") == 2} == {"buttress_plugins.attacks.clean"}


def test_these_tests_can_fail():
    found = modules_after("import buttress, buttress_plugins.attacks.pgd")
    assert heavy(found) >= {"torch", "buttress_plugins", "buttress_plugins.attacks.pgd"}


# Direction


def imported(path: Path, package: str) -> set[str]:
    """Full names of all modules that a file imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def files(root: Path, name: str) -> list[tuple[Path, str]]:
    """Python files under ``root`` with the packages that they are in."""
    found = []
    for path in sorted(root.rglob("*.py")):
        found.append((path, ".".join([name, *path.relative_to(root).parts[:-1]])))
    return found


def test_the_core_never_imports_a_plugin():
    sinners = {
        path.name: bad
        for path, package in files(CORE, "buttress")
        if (bad := {name for name in imported(path, package) if name.split(".")[0] == "buttress_plugins"})
    }
    assert sinners == {}


def test_plugins_never_import_each_other():
    sinners = {}
    for path, package in files(PLUGINS, "buttress_plugins"):
        bad = {name for name in imported(path, package) if name.split(".")[0] == "buttress_plugins"}
        if bad:
            sinners[path.name] = bad
    assert sinners == {}


def test_compiled_code_is_reached_through_the_kernels_alone():
    for root, name in ((CORE, "buttress"), (PLUGINS, "buttress_plugins")):
        for path, package in files(root, name):
            if "kernels" not in path.parts:
                text = path.read_text(encoding="utf-8")
                assert "torch.ops.buttress" not in text, path
                assert not any(module.startswith("buttress._C") for module in imported(path, package)), path


@pytest.mark.parametrize(
    ("code", "package", "expected"),
    [
        ("import buttress_plugins.attacks.pgd as p", "x", "buttress_plugins.attacks.pgd"),
        ("from buttress_plugins import attacks", "x", "buttress_plugins.attacks"),
        ("def f():\n    from buttress_plugins.attacks.pgd import PGD", "x", "buttress_plugins.attacks.pgd"),
        ("from .pgd import PGD", "buttress_plugins.attacks", "buttress_plugins.attacks.pgd"),
        ("from ..losses import trades", "buttress_plugins.attacks", "buttress_plugins.losses.trades"),
        ("from . import pgd", "buttress_plugins.attacks", "buttress_plugins.attacks.pgd"),
    ],
)
def test_the_scan_sees_every_form_of_import(tmp_path: Path, code: str, package: str, expected: str):
    (tmp_path / "m.py").write_text(code)
    assert expected in imported(tmp_path / "m.py", package)


# Public names

MODULES = sorted(
    module.name
    for package in (buttress, buttress_plugins)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("name", ["buttress", *MODULES])
def test_every_public_name_can_be_imported(name: str):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        assert getattr(module, public) is not None, public


def test_dir_shows_the_public_names_and_others_are_refused():
    assert set(buttress.__all__) == set(dir(buttress))
    with pytest.raises(AttributeError, match="module 'buttress' has no attribute 'Enigne'"):
        _ = buttress.Enigne
