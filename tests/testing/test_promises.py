"""Every promise can be kept, by all built-in plugins, and broken, each by a plugin made for it."""

import inspect
import json
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import torch

from buttress.cli import main
from buttress.errors import ConfigError, PluginError
from buttress.registry import find, load
from buttress.testing import BrokenPromiseError, check_plugin, promises
from buttress.testing.cost import passes_added
from buttress.testing.promise import RULES
from buttress.testing.subject import Subject

from ..plugins.catalogue import CATALOGUE
from . import broken

BROKEN = {cls.__name__: cls for cls in vars(broken).values() if inspect.isclass(cls) and hasattr(cls, "breaks")}


@pytest.fixture(autouse=True)
def _one_thread():
    found = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(found)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_built_in_plugin_keeps_its_promises(name: str):
    wrong = []
    for promise in promises(load(find("plugin", name)), CATALOGUE[name].settings, name=name):
        try:
            promise.check()
        except SkipTest:
            pass
        except BrokenPromiseError as found:
            wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_there_is_a_plugin_that_breaks_each_promise():
    assert {cls.breaks for cls in BROKEN.values()} == set(RULES)
    assert len(RULES) >= 15


@pytest.mark.parametrize("cls", BROKEN.values(), ids=lambda cls: cls.__name__)
def test_a_broken_promise_is_named(cls: Any):
    (promise,) = [promise for promise in promises(cls) if str(promise) == cls.breaks]
    with pytest.raises(BrokenPromiseError, match=rf"plugin '{cls.__name__}' breaks '{cls.breaks}' \(") as found:
        promise.check()
    assert RULES[cls.breaks].text in str(found.value)


def test_the_command_names_the_broken_promises_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "mine.py"
    path.write_text(
        "from buttress import hookimpl\n" + inspect.getsource(broken.Evaluates) + inspect.getsource(broken.NoSource)
    )
    assert main(["plugins", "check", str(path), "--json"]) == 1
    said = capsys.readouterr()
    evaluates, no_source = json.loads(said.out)
    assert "mode_restored" in evaluates["broken"]
    assert "documented_source" in no_source["broken"]
    assert "evaluates breaks mode_restored" in said.err
    assert {result["status"] for result in evaluates["results"]} == {"kept", "broken", "not asked"}
    assert main(["plugins", "check", "clean"]) == 0
    assert "plugin 'clean' (buttress " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "unknown plugin 'nobody'"),
        (["nowhere/mine.py"], "cannot be read: No such file"),
        (["nowhere/mine"], "no such file or folder"),
        (["cutout", "size=0"], "cutout.size: "),
        (["cutout", "cutot.size=3"], "expected key=value, or plugin.key=value; did you mean 'cutout'"),
        (["cutout", "--json", "size"], "expected key=value"),
    ],
)
def test_what_cannot_be_examined_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "check", *words]) == 2
    assert message in capsys.readouterr().err


def test_settings_that_are_required_are_asked_for_and_taken():
    class Needs(broken.Passes):
        """Has a setting without a default.

        Args:
            alpha: a share.
        """

        def __init__(self, *, alpha: broken.Share) -> None:
            self.alpha = alpha

    with pytest.raises(ConfigError, match=r"^Needs\.alpha: required"):
        promises(Needs)
    assert check_plugin(Needs, {"alpha": 0.5}).broken == []


def test_a_class_that_is_no_plugin_is_refused():
    class Nothing:
        pass

    with pytest.raises(PluginError, match="implements no hook"):
        promises(Nothing)


def test_promises_are_those_of_the_plugin_s_hooks():
    names = [str(promise) for promise in promises(broken.Passes)]
    assert "inside_box" in names
    assert {"inside_ball", "one_loss_an_example", "plain_state", "track_named"}.isdisjoint(names)


def test_check_plugin_raises_with_every_broken_promise():
    with pytest.raises(BrokenPromiseError) as found:
        check_plugin(broken.MovesFrozen)
    assert "'frozen_weights_stay'" in str(found.value)
    assert "'weights_as_found'" in str(found.value)


@pytest.mark.parametrize(
    ("name", "passes"),
    [("pgd", (10, 10, 0)), ("trades", (1, 0, 1)), ("awp", (1, 0, 1)), ("swa", (0, 0, 0))],
)
def test_the_cost_of_a_plugin_is_what_it_adds_to_a_step(name: str, passes: tuple[int, int, int]):
    found = passes_added(Subject(load(find("plugin", name)), None, name))
    assert (found.forwards, found.input_backwards, found.weight_backwards) == passes


def test_the_external_example_keeps_its_promises(capsys: pytest.CaptureFixture[str]):
    folder = Path(__file__).parents[2] / "examples" / "external_plugin"
    assert main(["plugins", "check", str(folder), "conv_only=true"]) == 0
    assert "plugin 'centralize' (buttress-centralize 0.1.0): " in capsys.readouterr().out


def test_the_document_lists_every_promise():
    text = (Path(__file__).parents[2] / "docs" / "writing_a_plugin.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("| promise | what is promised |\n|---|---|\n")
    table = rest.partition("\n\n")[0]
    assert table == "\n".join(f"| `{rule.name}` | {rule.text} |" for rule in RULES.values())
