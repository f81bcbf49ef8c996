"""The hooks that a source text shows are those that an import shows, or none are named."""

import sys
from pathlib import Path

import pytest

from buttress.components.members import hooks_in
from buttress.components.source_hooks import hooks_in_source
from buttress.components.sources import HOOKED, load, sources
from buttress.hookspecs import HOOKS, TITLES, main_hook

HEAD = "from dataclasses import dataclass\nfrom typing import NamedTuple\nfrom buttress import hookimpl\n"
HOOK = "    @hookimpl\n    def adjust_grads(self): ...\n"


@pytest.mark.parametrize("kind", HOOKED)
def test_the_source_of_every_built_in_shows_its_hooks(kind: str):
    built_in = [source for source in sources(kind) if source.distribution == "buttress"]
    assert built_in
    for source in built_in:
        assert hooks_in_source(source.target) == hooks_in(load(source)), source.name


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules of which none may be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(site: Path, source: str, name: str = "shown") -> Path:
    """A package with a module that raises when it is imported, as its package does."""
    package = site / f"{name}_{abs(hash(source)):x}"
    package.mkdir()
    (package / "__init__.py").write_text("1 / 0\n")
    (package / "module.py").write_text(f"{HEAD}{source}\n1 / 0\n")
    return package


@pytest.mark.parametrize(
    ("source", "hooks"),
    [
        (f"class A:\n{HOOK}", {"adjust_grads"}),
        (f"class B:\n{HOOK}class A(B):\n    @hookimpl(wrapper=True)\n    def compute_loss(self): ...\n",
         {"adjust_grads", "compute_loss"}),
        (f"@dataclass(eq=False)\nclass A(object):\n    size: int = 1\n{HOOK}    def help(self): ...\n",
         {"adjust_grads"}),
        ("class A:\n    @hookimpl(specname='log')\n    def write(self): ...\n", {"log"}),
        ("class A:\n    @hookimpl\n    def misspelled(self): ...\n", set()),
        ("class A:\n    def adjust_grads(self): '\\d'\n", set()),  # an import refuses it
        ("from .other import B as A\n", {"adjust_grads"}),
        ("from .other import B\nclass A(B): ...\n", {"adjust_grads"}),
        ("from . import other\nclass A(other.B): ...\n", None),
        ("from ....other import A\n", None),
        ("from .missing import A\n", None),
        ("from .module import A\n", None),  # a circle
        ("class A(NamedTuple): ...\n", None),
        (f"def made():\n    class A:\n    {HOOK}    return A\nA = made()\n", None),
        (f"class A:\n{HOOK}A = changed(A)\n", None),
        (f"class A:\n{HOOK}def A(): ...\n", None),
        (f"class A:\n{HOOK}class A: ...\n", None),
        (f"class A(metaclass=M):\n{HOOK}", None),
        (f"@changed\nclass A:\n{HOOK}", None),
        ("class A:\n    adjust_grads = hookimpl(function)\n", None),
        (f"class A:\n    if True:\n        @hookimpl\n        def log(self): ...\n{HOOK}", None),
        ("class A:\n    @hookimpl(specname=NAME)\n    def write(self): ...\n", None),
        ("class A(:\n", None),
    ],
)  # fmt: skip
def test_hooks_are_named_where_the_source_shows_all_of_them(site: Path, source: str, hooks: set[str] | None):
    package = written(site, source)
    (package / "other.py").write_text(f"{HEAD}class B:\n{HOOK}1 / 0\n")
    assert hooks_in_source(f"{package.name}.module:A") == hooks
    assert hooks_in_source(f"{package.name}.module : A [extra]") == hooks
    assert not [module for module in sys.modules if module.startswith(package.name)]


@pytest.mark.parametrize("target", ["no_such_module:A", "sys:A", "math:A", "json:A", ".:A", "", "a b:c", "__main__:A"])
def test_a_target_without_a_source_shows_nothing(target: str):
    assert hooks_in_source(target) is None


def test_what_is_no_file_is_not_read(site: Path):
    package = written(site, "")
    (package / "module.py").unlink()
    (package / "module.py").symlink_to("/dev/zero")
    assert hooks_in_source(f"{package.name}.module:A") is None


def test_every_hook_has_a_title_and_those_of_a_step_come_first():
    assert set(TITLES) == HOOKS
    assert main_hook(["start_run", "compute_loss", "generate_adv"]) == "generate_adv"
    assert main_hook(["end_run", "start_run"]) == "start_run"
    assert main_hook([]) == ""
