"""Broken plugins that nobody chose are not imported; one that is chosen is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buttress.authoring import inventory

from .contained import BROKEN, COMMANDS, SAYS, command, imported, prepare, unnamed


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("contained")
    prepare(work)
    return work


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_works_among_broken_plugins_and_imports_none(work: Path, name: str):
    done = command(work, work / "site", *COMMANDS[name])
    assert done.returncode == 0, done.stderr
    assert imported(work / "site") == []
    if name == "plugins list":
        assert all(f"broken-{broken} 1.0" in done.stdout for broken in BROKEN)
        assert unnamed(work, work / "site") == []


CHOOSE_EACH = """
import contextlib, io, json, sys
from buttress.cli import main

found = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["train", "payload.yaml", f"plugins=[fgsm, {name}]"])
    found[name] = code, errors.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def chosen(work: Path) -> dict[str, tuple[int, str]]:
    """Exit code and errors of a training with each broken plugin, all in one process, where torch is imported once."""
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE_EACH, *SAYS],
        cwd=work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(work / "site"), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SAYS)
def test_a_broken_plugin_that_is_chosen_is_named_with_cause_and_exit_2(
    work: Path, chosen: dict[str, tuple[int, str]], name: str
):
    code, errors = chosen[name]
    assert code == 2
    assert f"{name!r} from broken-{name} 1.0" in errors
    assert SAYS[name] in errors
    assert (name == "no_syntax") == (name not in imported(work / "site"))  # the trace that the first test relies on


def test_the_check_reports_each_and_waits_for_none(work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inventory, "CHECK_SECONDS", 5.0)
    monkeypatch.setenv("PYTHONPATH", str(work / "site"), prepend=":")
    from buttress.components.sources import Source

    sources = {name: Source("plugin", name, f"broken_{name}:Plugin", f"broken-{name}", "1.0") for name in BROKEN}
    facts = inventory._checked(list(sources.values()))
    found = {name: facts[source]["status"] for name, source in sources.items()}
    for name, said in SAYS.items():
        assert found[name].startswith("broken: ")
        assert said in found[name]
    assert found["sleeps"] == "broken: its import takes more than 5 s"
