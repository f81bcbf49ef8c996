"""The author's shelf: all that a plugin may import, complete in ``__all__``; whatever comes with buttress obeys."""

import ast
import importlib
from pathlib import Path

import pytest

SHELF = (
    "buttress",
    "buttress.data",
    "buttress.functional",
    "buttress.images",
    "buttress.kernels",
    "buttress.nn",
    "buttress.settings",
    "buttress.testing",
)
ROOT = Path(__file__).parents[2]
WRITTEN_FOR_AUTHORS = sorted(
    path
    for folder in ("plugins/buttress_plugins", "examples", "core/buttress/authoring/templates")
    for path in (ROOT / folder).rglob("*.py")
)


def beside_the_shelf(code: str) -> list[str]:
    """Imports of ``code``, at any depth, that take something of buttress from elsewhere than the shelf."""
    bad = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            bad += [each.name for each in node.names if is_ours(each.name) and each.name not in SHELF]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module and is_ours(node.module):
            names = [each.name for each in node.names]
            bad += [f"{node.module}.{name}" for name in names if not is_on_shelf(node.module, name)]
    return bad


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "buttress"


def is_on_shelf(module: str, name: str) -> bool:
    return module in SHELF and name in importlib.import_module(module).__all__


@pytest.mark.parametrize("path", WRITTEN_FOR_AUTHORS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_comes_with_buttress_imports_from_the_shelf_alone(path: Path):
    assert beside_the_shelf(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "from buttress.engine.context import Context",
        "from buttress.nn.modes import Modes",
        "from buttress.nn import modes",
        "from buttress import engine",
        "import buttress.storage.files as files",
        "def f():\n    from buttress.errors import PluginError",
        "from buttress import _version",
    ],
)
def test_the_scan_sees_every_import_beside_the_shelf(code: str):
    assert len(beside_the_shelf(code)) == 1


@pytest.mark.parametrize("module", SHELF)
def test_every_public_name_of_the_shelf_is_listed_and_there(module: str):
    shelf = importlib.import_module(module)
    assert [name for name in shelf.__all__ if not hasattr(shelf, name)] == []
    assert sorted(public_names(Path(shelf.__file__)) - set(shelf.__all__)) == []


def public_names(path: Path) -> set[str]:
    """Names without ``_`` that a module defines; a package, which gathers those of its modules, also what it imports.

    Imports for the type checker alone count: so the root imports what it fetches on first use.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    guarded = [inner for branch in tree.body if isinstance(branch, ast.If) for inner in branch.body]
    for node in [*tree.body, *guarded]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py" and is_ours(node.module or ""):
            names |= {each.asname or each.name for each in node.names}
    return {name for name in names if not name.startswith("_")}


def test_the_scan_sees_every_public_name(tmp_path: Path):
    package = tmp_path / "__init__.py"
    package.write_text("import os\nfrom buttress.a import b\nC = 1\nd: int = 2\n_e = 3\ndef f(): pass\nclass G: pass\n")
    assert public_names(package) == {"b", "C", "d", "f", "G"}
    module = tmp_path / "m.py"
    module.write_text(package.read_text())
    assert public_names(module) == {"C", "d", "f", "G"}


def test_the_root_fetches_what_it_lists():
    import buttress

    assert {*buttress._HOME, "__version__", "hookimpl"} == set(buttress.__all__)
