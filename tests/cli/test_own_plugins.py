"""``plugins_file``, ``requires``, ``disable``: plugins beside a config, versions that it asks for, plugins left out."""

import json
import re
from pathlib import Path

import pytest
import yaml

from buttress.components.plugins_file import PluginsFile, read_plugins_file, snake_case
from buttress.components.sources import find
from buttress.config.file import ConfigFile, load_config
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, PluginError
from buttress.training.dataset import load_data

from .conftest import CONFIG, Run

MINE = '''
from typing import Annotated

from annotated_types import Ge

from buttress import Batch, hookimpl


class Shrink:
    """Shrinks the gradients.

    Args:
        factor: of every gradient.
    """

    def __init__(self, *, factor: Annotated[float, Ge(0)] = 0.5) -> None:
        self.factor = factor

    @hookimpl
    def adjust_grads(self, model):
        for weight in model.parameters():
            weight.grad *= self.factor


class StandStill:
    """An attack that does not move."""

    @hookimpl
    def generate_adv(self, batch: Batch):
        return batch.x.clone()


class FirstLogit:
    """An attack loss: the logit of the first class."""

    def input_loss(self, model, batch, ctx):
        return lambda x: model(x)[:, 0]
'''


def write(folder: Path, name: str = "own.yaml", **changes: object) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump({**CONFIG, "epochs": 2, **changes}, sort_keys=False))
    return path


OWN = [{"pgd": {"steps": 1, "loss": "first_logit"}}, {"shrink": {"factor": 0.25}}]


def test_a_run_with_a_plugins_file_keeps_it_and_resumes_without_the_original(buttress: Run, workspace: Path):
    (workspace / "mine.py").write_text(MINE)
    write(workspace, plugins_file="mine.py", plugins=OWN, evaluation={"attack": "stand_still"})
    done = buttress("train", "own.yaml", "--run", "a", "--runs", "out")
    assert done.returncode == 0, done.stderr
    folder = workspace / "out" / "small" / "a"
    manifest = json.loads((folder / "manifest.json").read_text())
    file = read_plugins_file(workspace / "mine.py")
    assert (folder / "mine.py").read_text() == MINE
    assert manifest["plugins_file"] == {"name": "mine.py", "sha256": file.sha256}
    assert manifest["plugins"]["shrink"]["distribution"] == "mine.py"
    assert manifest["plugins"]["shrink"]["version"] == f"sha256:{file.sha256[:12]}"
    assert manifest["plugins"]["shrink"]["settings"] == {"factor": 0.25}
    assert manifest["attack_losses"]["first_logit"]["entry_point"] == "mine.py:FirstLogit"

    (workspace / "mine.py").unlink()
    whole = (folder / "weights" / "last-live.safetensors").read_bytes()
    for name in ("checkpoints/step-00000008.json", "weights/last-live.safetensors"):
        (folder / name).unlink()
    done = buttress("resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "weights" / "last-live.safetensors").read_bytes() == whole
    words = ("--attack", "pgd: {steps: 1, loss: first_logit}", "--attack", "pgd-1")
    done = buttress("evaluate", str(folder), *words)
    assert done.returncode == 0, done.stderr
    assert "pgd-1-first_logit" in done.stdout

    (folder / "mine.py").write_text(MINE + "\n")
    done = buttress("resume", str(folder))
    assert done.returncode == 2
    assert "mine.py has been changed since the run was started" in done.stderr


def test_a_comparison_with_a_plugins_file_goes_on_and_notices_another_one(buttress: Run, workspace: Path):
    (workspace / "mine.py").write_text(MINE)
    write(workspace, plugins_file="mine.py", plugins=OWN, epochs=1, evaluation={"attack": "stand_still"})
    words = ("compare", "own.yaml", "--seeds", "1", "--name", "c", "--runs", "out")
    done = buttress(*words)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (workspace / "out" / "c" / "small-s0" / "mine.py").read_text() == MINE
    assert buttress(*words).returncode == 0
    (workspace / "mine.py").write_text(MINE + "\n")
    done = buttress(*words)
    assert done.returncode == 2
    assert "holds a run of another mine.py" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (\n", r"own\.yaml:\d+: plugins_file: .*mine\.py: cannot be executed: .*closed \(mine\.py:1\)"),
        ("x = 1\n\nimport nothing_like_it\n", r"mine\.py: cannot be executed: ModuleNotFoundError: .* \(mine\.py:3\)"),
        ("raise SystemExit('gone')\n", r"mine\.py: cannot be executed: SystemExit: gone \(mine\.py:1\)"),
        ("x = 1\n", r"mine\.py: holds no plugin, no class with a method marked @hookimpl, and no attack loss, "),
        (MINE + MINE.replace("class Shrink", "class shrink"), r"mine\.py: two classes are called 'shrink'"),
        (MINE.replace("class Shrink", "class PGD"), r"class PGD would be called 'pgd', as the plugin of buttress"),
        (MINE.replace("FirstLogit", "CE"), r"class CE would be called 'ce', as the attack loss of buttress"),
    ],
)
def test_a_wrong_plugins_file_is_refused_with_its_line(text: str, message: str, workspace: Path):
    (workspace / "mine.py").write_text(text)
    file = load_config(write(workspace, plugins_file="mine.py"))
    assert file.plugins_file is not None
    with pytest.raises(PluginError, match=message):
        assert file.own.components


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.py", r"own\.yaml:\d+: plugins_file: .*gone\.py: cannot be read: No such file"),
        ("../mine.py", r"own\.yaml:\d+: plugins_file: "),
        ("mine.txt", r"own\.yaml:\d+: plugins_file: "),
    ],
)
def test_a_plugins_file_lies_beside_the_config(name: str, message: str, workspace: Path):
    with pytest.raises(ConfigError, match=message):
        load_config(write(workspace, plugins_file=name))


def test_a_class_is_called_as_in_a_config():
    assert [snake_case(name) for name in ("MyDefense", "RWP", "MyRWP2", "A")] == ["my_defense", "rwp", "my_rwp2", "a"]
    named = PluginsFile(Path("mine.py"), MINE.replace('"""Shrinks', 'name = "smaller"\n    """Shrinks'))
    assert set(named.components) == {"smaller", "stand_still", "first_logit"}


# requires


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        (["torch>=1", "buttress"], ""),
        (["nobody-has-this>=1; python_version < '3'"], ""),
        (["torch<1"], r"own\.yaml:\d+: requires: torch<1 is required, and torch \S+ is installed"),
        (["nobody-has-this>=1.2"], "nobody-has-this>=1.2 is required, and nobody-has-this is not installed"),
        (["preact_tiny>=1"], 'model preact_tiny is of distribution buttress, .* write "buttress>=0'),
        (["torhc>=2"], r"torhc is not installed; did you mean torch, of which \S+ is installed\?"),
        (["torch >> 2"], r"own\.yaml:\d+: requires: expected a requirement like my-defense>=1\.2"),
    ],
)
def test_a_config_requires_distributions(requires: list[str], message: str, workspace: Path):
    def load() -> None:
        load_data(load_config(write(workspace, requires=requires)))

    if not message:
        return load()
    with pytest.raises(ConfigError) as refusal:
        load()
    assert re.search(message, str(refusal.value))


# disable


def config(**changes: object) -> ConfigFile:
    return ConfigFile(parse_yaml(yaml.safe_dump({**CONFIG, **changes}, sort_keys=False), "c.yaml"))


@pytest.mark.parametrize(
    ("disable", "left"),
    [
        (["swa"], ["pgd", "meat", "ema"]),
        (["ema", "buttress:swa"], ["pgd", "meat"]),
        (["EMA", "Buttress:Swa"], ["pgd", "meat"]),
        ([], ["pgd", "meat", "ema", "swa"]),
    ],
)
def test_disabled_plugins_are_left_out(disable: list[str], left: list[str]):
    file = config(disable=disable)
    assert [next(iter(entry)) for entry in file.config.plugins] == left
    assert file.disabled == [name for name in ("pgd", "meat", "ema", "swa") if name not in left]
    assert file.config.disable == []


def test_places_of_the_plugins_that_are_left_are_still_their_own():
    file = config(disable=["meat"])
    assert str(file.place.under("plugins", 1, "ema", "tau")) == str(config().place.under("plugins", 2, "ema", "tau"))


def test_loggers_are_left_out_too():
    file = config(disable=["Tensor_Board"], loggers=["tensorboard", "mine:tensor-board"])
    assert file.disabled == ["mine:tensor-board"]
    assert [next(iter(entry)) for entry in file.config.loggers] == ["tensorboard"]


@pytest.mark.parametrize(
    ("word", "changes", "message"),
    [
        ("buttress", {}, r"'buttress' means attack 'pgd' of evaluation\.attack, which a run cannot do without"),
        ("pgd", {"evaluation": {}}, r"c\.yaml:\d+: disable: 'pgd' means attack 'pgd' of evaluation\.attack, which"),
        ("Preact.Tiny", {}, r"means model 'preact_tiny' of model\.name, .* choose another one there"),
        ("buttress:npz", {}, r"means dataset 'npz' of data\.name, which"),
        ("piecewise", {}, r"means schedule 'piecewise' of schedule\.name, which"),
    ],
)
def test_what_a_run_cannot_do_without_is_not_left_out(word: str, changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        config(disable=[word], **changes)


def test_a_word_that_means_no_plugin_of_the_config_is_refused():
    with pytest.raises(ConfigError, match=r"c\.yaml:\d+: disable: 'swaa' means none .*did you mean 'swa'"):
        config(disable=["swaa"])
    with pytest.raises(ConfigError, match="'trades' means none"):
        config(disable=["trades"])


def test_one_plugin_has_to_be_left():
    with pytest.raises(ConfigError, match=r"c\.yaml:\d+: disable: expected at least one plugin that is left, got none"):
        config(disable=["pgd", "meat", "ema", "swa"], evaluation={"attack": "fgsm"})


def test_disable_works_from_the_command_line(buttress: Run):
    words = ["disable=[meat, ema, tensorboard]", "loggers=[tensorboard]"]
    done = buttress("train", "small.yaml", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "left out by disable: meat, ema, tensorboard" in done.stdout
    assert "ensemble_weights: swa" in done.stdout


def test_the_environment_disables_by_name_and_by_distribution(buttress: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_DISABLE", "swa, buttress:ema")
    for name in ("swa", "ema"):
        with pytest.raises(PluginError, match=rf"plugin '{name}' from buttress \S+ is disabled by .*BUTTRESS_DISABLE"):
            find("plugin", name)
    assert find("plugin", "meat").name == "meat"
    monkeypatch.setenv("BUTTRESS_DISABLE", "Buttress")
    with pytest.raises(PluginError, match="disabled"):
        find("plugin", "meat")
    done = buttress("plugins", "list", "--json", BUTTRESS_DISABLE="swa")
    rows = {row["name"]: row["status"] for row in json.loads(done.stdout) if row["kind"] == "plugin"}
    assert rows["swa"] == "disabled"
    assert rows["ema"] == "listed"


TYPES = '''
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from buttress import hookimpl


class Mode(Enum):
    SLOW = "slow"
    FAST = "fast"


class Mine:
    """Takes settings of every kind.

    Args:
        value: a path.
        mode: a mode.
        names: of layers.
    """

    def __init__(self, *, value: Path = Path("x"), mode: Mode = Mode.SLOW, names: set[str] = {"b", "a"}) -> None:
        assert isinstance(value, Path) and isinstance(mode, Mode) and isinstance(names, set)

    @hookimpl
    def adjust_grads(self, model, optimizer):
        pass


class Calls(Mine):
    def __init__(self, *, call: Callable[[int], int] = abs) -> None: ...
'''


def test_paths_enums_and_sets_are_settings_and_functions_are_none(buttress: Run, workspace: Path):
    (workspace / "types.py").write_text(TYPES)
    write(workspace, plugins_file="types.py", plugins=[{"pgd": {"steps": 1}}, {"mine": {"names": ["d", "c"]}}])
    done = buttress("config", "show", "own.yaml", "plugins.mine.mode=fast", "--json", "--trust")
    assert done.returncode == 0, done.stderr
    resolved = json.loads(done.stdout)
    assert resolved["plugins"][1] == {"mine": {"value": "x", "mode": "fast", "names": ["c", "d"]}}
    done = buttress("train", "own.yaml", "plugins=[pgd, calls]", "--dry-run")
    assert done.returncode == 2
    assert "setting 'call' is a" in done.stderr
    assert "Traceback" not in done.stderr
    done = buttress("train", "own.yaml", "plugins=[pgd, mien]", "--dry-run")
    assert done.returncode == 2
    assert "unknown plugin 'mien'; did you mean 'mine'?" in done.stderr
