"""Data of errors beside their message; it survives a change of words and a process."""

import copy
import inspect
import pickle
from pathlib import Path

import pytest

from buttress import errors
from buttress.cli.options import part_of
from buttress.components.place import Place
from buttress.config.file import ConfigFile, load_config
from buttress.config.yaml_source import parse_yaml
from buttress.errors import (
    ButtressError,
    CheckpointError,
    ConfigError,
    HookError,
    InputError,
    PathError,
    PluginError,
    RunFolderError,
    all_faults,
    extended,
    keyed,
    prefixed,
)
from buttress.storage.reading import read_json

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
HOOK = HookError("no", plugin="pgd#2", hook="generate_adv", epoch=2, step=3, place="mine.py:4")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_docstring_of_its_own_and_stands_in_the_tree(kind: type):
    assert issubclass(kind, ButtressError)
    assert kind.__doc__ not in {base.__doc__ for base in kind.__mro__[1:]}
    assert kind.__name__ in errors.tree.__doc__


def test_the_message_begins_with_the_key_and_ends_with_the_line():
    problem = ConfigError("expected a number", key="a.yaml:3: epochs", place="mine.py:4")
    assert str(problem) == "a.yaml:3: epochs: expected a number (mine.py:4)"
    assert (problem.key, problem.place) == ("a.yaml:3: epochs", "mine.py:4")
    assert (ConfigError("no").key, ConfigError("no").place) == ("", "")


def test_a_path_that_no_file_can_have_has_a_key_too():
    assert str(PathError("no", key="--output")) == "--output: no"


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize("error", [HOOK, ConfigError("no", key="epochs", place="mine.py:4")], ids=["hook", "config"])
def test_an_error_goes_through_a_process_whole(error: ButtressError, again):
    made = again(error)
    assert (type(made), str(made), vars(made)) == (type(error), str(error), vars(error))


def test_another_wording_keeps_kind_and_data():
    named = prefixed(ConfigError("no", key="epochs", place="mine.py:4"), "plugin 'x'")
    assert isinstance(named, ConfigError)
    assert str(named) == "plugin 'x': epochs: no (mine.py:4)"
    assert (named.key, named.place) == ("epochs", "mine.py:4")
    longer = extended(HOOK, "; and so on")
    assert str(longer) == "no (mine.py:4); and so on"
    assert (longer.plugin, longer.hook, longer.epoch, longer.step) == ("pgd#2", "generate_adv", 2, 3)


def test_an_author_s_own_kind_becomes_the_nearest_of_buttress():
    class MineError(PluginError):
        def __init__(self) -> None:
            super().__init__("no", key="mine.rate")

    named = prefixed(MineError(), "plugin 'x'")
    assert type(named) is PluginError
    assert isinstance(named, InputError)
    assert (str(named), named.key) == ("plugin 'x': mine.rate: no", "mine.rate")


def test_an_error_knows_the_key_of_the_config_that_is_at_fault():
    with pytest.raises(ConfigError) as caught:
        ConfigFile(parse_yaml("epoch: 3\nname: small\n", "small.yaml"))
    assert caught.value.key == "small.yaml:1: epoch"
    assert caught.value.message.startswith("unknown key; did you mean 'epochs'?")
    with pytest.raises(ConfigError) as caught, Place("pgd").error_context():
        raise ConfigError("no")
    assert (str(caught.value), caught.value.key) == ("pgd: no", "pgd")


@pytest.mark.parametrize("kind", [CheckpointError, RunFolderError])
def test_an_error_about_a_file_has_its_path_as_data_also_after_it_was_worded_anew(kind: type[CheckpointError]):
    problem = kind("run/a.json is damaged", path=Path("run/a.json"))
    assert problem.path == Path("run/a.json")
    assert kind("no").path is None
    worded = extended(keyed(prefixed(problem, "meat"), "model.weights"), "; delete it")
    assert isinstance(worded, kind)
    assert (str(worded), worded.path) == ("model.weights: meat: run/a.json is damaged; delete it", problem.path)


def test_several_faults_have_a_line_each_and_the_place_of_the_first_as_their_key():
    problem = all_faults([("a.yaml:1: epoch", "unknown key"), ("a.yaml:2: seed", "expected a number")])
    assert str(problem) == "a.yaml:1: epoch: unknown key\na.yaml:2: seed: expected a number"
    assert problem.key == "a.yaml:1: epoch"


def test_the_key_of_a_wrong_override_and_of_a_wrong_option_is_data(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert caught.value.key == str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError) as caught:
        part_of("3/2", "--only")
    assert caught.value.key == "--only '3/2'"
    with pytest.raises(CheckpointError) as damaged:
        read_json(tmp_path / "none.json")
    assert damaged.value.path == tmp_path / "none.json"
