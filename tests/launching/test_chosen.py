"""Launchers by name, and their settings from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from buttress.authoring.inventory import facts_of
from buttress.cli.options import launcher_options
from buttress.cli.verb import verb
from buttress.components import sources as installed_sources
from buttress.components.sources import find
from buttress.errors import ConfigError, PluginError
from buttress.launching.chosen import load_launcher
from buttress.launching.local import LocalProcesses

MODULE = """
from buttress.launching.launcher import Launcher
from buttress.launching.local import LocalProcesses

class Careful(LocalProcesses):
    def __init__(self, *, patience: int = 2) -> None:
        super().__init__(threads=patience)

class Other:
    pass

class Half(Launcher):
    def open(self, folder, jobs): ...
"""
Install = Callable[[], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution with three launchers, of which one is any good."""

    def add() -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "careful_module.py").write_text(MODULE)
        info = tmp_path / "careful-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: careful\nVersion: 1.2\n")
        points = "\n".join(f"{name.lower()} = careful_module:{name}" for name in ("Careful", "Other", "Half"))
        (info / "entry_points.txt").write_text(f"[buttress.launchers]\n{points}\n")
        installed_sources._listed.cache_clear()

    return add


def test_launchers_of_distributions_are_chosen_by_name_and_checked(install: Install):
    install()
    assert load_launcher("careful", ["patience=3"]).terms(9) == "1 at once, OMP_NUM_THREADS=3 each"
    assert isinstance(load_launcher("local"), LocalProcesses)
    with pytest.raises(PluginError, match=r"launcher 'other' from careful 1\.2: expected a class derived from"):
        load_launcher("other")
    with pytest.raises(PluginError, match=r"launcher 'half' from careful 1\.2: lacks close, ended, room, stop, submit"):
        load_launcher("half")
    assert facts_of(find("launcher", "careful"))["status"] == "ok"
    assert facts_of(find("launcher", "half"))["status"].startswith("broken: ")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("locl", [], "--launcher: unknown launcher 'locl'; did you mean 'local'"),
        ("pgd", [], "'pgd' is a component of another kind: plugin, attack"),
        ("local", ["treads=2"], "--launcher-option 'treads=2': launcher 'local' has no setting 'treads'; did you mean"),
        ("local", ["epochs=2"], "no setting 'epochs'; known: threads; settings of runs stand before --launcher-option"),
        ("local", ["threads"], "--launcher-option 'threads': expected key=value"),
        ("local", ["threads=1", "threads=2"], "--launcher-option 'threads=2': threads is given twice"),
        ("local", ["threads=0"], "--launcher-option 'threads=0': threads: expected"),
        ("local", ["threads=many"], "--launcher-option 'threads=many': threads: expected"),
    ],
)
def test_a_wrong_name_or_setting_is_one_sentence(name: str, options: list[str], message: str):
    with pytest.raises((ConfigError, PluginError)) as caught:
        load_launcher(name, options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "settings", "rest"),
    [
        ("a.yaml --launcher-option p=1 q=2", ("p=1", "q=2"), ("a.yaml",)),
        ("--launcher-option p=1 q=2 a.yaml epochs=1", ("p=1", "q=2"), ("a.yaml", "epochs=1")),
        ("a.yaml --launcher-option p=1 q=2 --launcher far epochs=1", ("p=1", "q=2"), ("a.yaml", "epochs=1")),
        ("--launcher-option p=1 --launcher-option q=2 a.yaml", ("p=1", "q=2"), ("a.yaml",)),
        ("--launcher-option=p=1 q=2 a.yaml", ("p=1",), ("q=2", "a.yaml")),
        ("--launcher-option p=1 -- q=2", ("p=1",), ("q=2",)),
    ],
)
def test_an_option_takes_every_pair_after_it(words: str, settings: tuple[str, ...], rest: tuple[str, ...]):
    given: dict[str, Any] = {}

    @verb()
    @click.argument("overrides", nargs=-1)
    @launcher_options
    def compare(overrides: tuple[str, ...], launcher: str, launcher_settings: tuple[str, ...]) -> str:
        """Take words."""
        given.update(settings=launcher_settings, rest=overrides)
        return ""

    compare.main(words.split(), standalone_mode=False)
    assert given == {"settings": settings, "rest": rest}
