"""``target`` for data sets, schedules and models: a class or function of the user's own, beside the config."""

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.cli import main
from buttress.components.own_modules import import_target, origin
from buttress.config.file import load_config
from buttress.config.yaml_source import dump_yaml
from buttress.engine.engine import Engine
from buttress.errors import InputError
from buttress.number_text import Word
from buttress.training.assembly import check_config

from .conftest import CONFIG

DATA = '''
from typing import Annotated

import torch
from annotated_types import Ge, Interval

from buttress import Data, Split
from buttress.data import flip_labels
import numpy as np


class Stripes:
    """Random images whose brighter half is the class.

    Args:
        n: examples of a split.
        label_noise: share of the training labels that is moved.
    """

    def __init__(self, *, n: Annotated[int, Ge(4)] = 24, label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0):
        self.n, self.label_noise = n, label_noise

    def load(self, seed: int) -> Data:
        train, validation, test = (stripes(self.n, seed, part) for part in range(3))
        y, _ = flip_labels(train.y, self.label_noise, 2, np.random.default_rng(seed))
        return Data(
            Split(train.x, y), test, 2, validation, true_labels=train.y if self.label_noise else None
        )


def stripes(n, seed, part):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(10 * seed + part))
    y = torch.arange(n) % 2
    x[y == 1, :, :4] /= 2
    x[y == 0, :, 4:] /= 2
    return Split(x, y)


def plain(*, seed: int, n: int = 24) -> Data:
    return Data(*(stripes(n, seed, part) for part in (0, 2)), 2, stripes(n, seed, 1))


def unannotated(*, n: int = 24):
    return plain(seed=0, n=n)


class NoData:
    def load(self, seed: int) -> int:
        return 3


class Liar:
    def load(self, seed: int) -> Data:
        return [seed]


def lying(*, seed: int) -> Data:
    return (seed,)


def yielding(*, seed: int) -> Data:
    yield seed


class Broken:
    def load(self, seed: int) -> Data:
        return {}["nothing"]


class Listed:
    def load(self, seed: int) -> Data:
        split = stripes(8, seed, 0)
        return Data(split, Split(split.x, split.y.tolist()), 2)


class Raising:
    def load(self, seed: int) -> Data:
        return Data(Lazy(), Lazy(), 2)


class Lazy(Split):
    def __init__(self) -> None: ...

    @property
    def example_shape(self) -> tuple[int, ...]:
        return {}["n"]


class Positional:
    def __init__(self, n: int = 3) -> None: ...

    def load(self, seed: int) -> Data: ...
'''

SCHEDULE = '''
from buttress import Schedule
from buttress.config.schedules import Constant
from buttress.settings import Epoch


class Halves:
    """Half the learning rate from an epoch on.

    Args:
        start: epoch.
    """

    per = "epoch"

    def __init__(self, *, start: Epoch = 1) -> None:
        self.start = start

    def factor(self, t: float, epochs: int) -> float:
        return 1.0 if t < self.start else 0.5

    def drops(self, epochs: int) -> list[int]:
        return [self.start]


def made(*, start: Epoch = 2) -> Schedule:
    return Halves(start=start)


class Growing(Halves):
    def factor(self, t, epochs):
        return float("inf") if t else 1.0


class Sometimes(Halves):
    per = "sometimes"


class Raises(Halves):
    def drops(self, epochs):
        raise KeyError("start")
'''

NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width: int = 4, num_classes: int = 2) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))


class Bare(nn.Sequential):
    def __init__(self, in_features, num_classes=7, bias=True, p=0.5, extra=None):
        super().__init__(nn.Flatten(), nn.Dropout(p), nn.Linear(in_features, num_classes, bias=bias))
"""

OWN: dict[str, Any] = {
    "data": {"target": "own_data:Stripes", "args": {"label_noise": 0.25}, "batch_size": 12},
    "model": {"target": "own_net:Net", "args": {"width": 3}},
    "schedule": {"target": "own_schedule:Halves"},
    "plugins": [{"pgd": {"steps": 1}}, {"meat": {"start": 1}}],
    "epochs": 3,
}


# The same without a config: for a file of weights.
FREE = {
    "data.target": "own_data:Stripes",
    "model": "{target: 'own_net:Net', args: {width: 3}}",
    "threat": "{norm: linf, eps: 8/255}",
}


@pytest.fixture
def project(workspace: Path) -> Path:
    """A folder beside the working one, with three modules and ``own.yaml`` in it."""
    folder = workspace / "project"
    folder.mkdir()
    for name, text in (("data", DATA), ("schedule", SCHEDULE), ("net", NET)):
        (folder / f"own_{name}.py").write_text(text)
    write(folder)
    return folder


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "own.yaml"
    path.write_text(dump_yaml({**CONFIG, **OWN, **changes}))
    return path


def forget() -> None:
    """As in a process of its own: what a test before has imported is not there."""
    for name in [name for name in sys.modules if name.startswith("own_") or name == "twice"]:
        del sys.modules[name]
    importlib.invalidate_caches()


Verb = Callable[..., str]


@pytest.fixture
def expect(project: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb, which has to end with ``code``, and returns its output."""

    def run(*words: str, code: int = 0) -> str:
        exit_code = main(list(words))
        output = "".join(capsys.readouterr())
        assert exit_code == code, output
        return output

    return run


def test_a_run_of_own_modules_is_found_again_by_every_verb(expect: Verb, project: Path):
    output = expect("train", "project/own.yaml", "schedule.args.start=7", "--dry-run")
    assert "note: schedule.start is 7, after 7 epochs, which never comes" in output
    expect("train", "project/own.yaml", "--run", "a", "--runs", "out")
    run = project.parent / "out" / "small" / "a"
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["data"] == {
        "target": "own_data:Stripes",
        "args": {"n": 24, "label_noise": 0.25},
        "batch_size": 12,
        "drop_last": False,
        "replays": 1,
    }
    assert resolved["schedule"] == {"target": "own_schedule:Halves", "args": {"start": 1}}
    assert resolved["modules"] == str(project)
    origins = json.loads((run / "manifest.json").read_text())["modules"]
    assert {key: (value["target"], value["folder"], value["file"]) for key, value in origins.items()} == {
        "data": ("own_data:Stripes", str(project), "own_data.py"),
        "model": ("own_net:Net", str(project), "own_net.py"),
        "schedule": ("own_schedule:Halves", str(project), "own_schedule.py"),
    }

    whole = (run / "weights" / "last-live.safetensors").read_bytes()
    for name in ("checkpoints/step-00000006.json", "weights/last-live.safetensors"):
        (run / name).unlink()
    forget()
    expect("resume", str(run))
    assert (run / "weights" / "last-live.safetensors").read_bytes() == whole

    expect("evaluate", str(run), "--track", "meat")
    expect("evaluate", str(run / "weights" / "best-live.safetensors"), "--config", str(run / "config.yaml"))
    expect("analyze", str(run), "--part", "label_noise")
    expect("reproduce", str(run), "--run", "b", "--runs", "out")
    expect("report", str(run))
    expect("config", "validate", str(run / "config.yaml"))
    expect("export", str(run), "--output", "card")
    assert 'own_data:Stripes {"n": 24, "label_noise": 0.25}' in (project.parent / "card" / "README.md").read_text()

    with (project / "own_data.py").open("a") as file:
        file.write("# another\n")
    for words in (("resume", str(run)), ("evaluate", str(run)), ("reproduce", str(run))):
        output = expect(*words, code=2)
        assert f"data.target is own_data:Stripes, and {project / 'own_data.py'} has been changed" in output
    expect("report", str(run))
    shutil.move(project, project.parent / "elsewhere")
    output = expect("resume", str(run), code=2)
    assert f"own_data.py is neither in {project}, where it was, nor in the working folder" in output


def test_the_schedule_of_a_target_sets_the_learning_rates(project: Path, monkeypatch: pytest.MonkeyPatch):
    rates = []
    monkeypatch.setattr(Engine, "set_lr", lambda engine, factor, t: rates.append((t, factor)))
    assert main(["train", "project/own.yaml", "epochs=2", "--runs", "out"]) == 0
    assert rates == [(0, 1.0), (0, 1.0), (1, 0.5), (1, 0.5)]


def test_modules_that_moved_to_the_working_folder_are_found(expect: Verb, project: Path):
    expect("train", "project/own.yaml", "epochs=1", "--run", "a", "--runs", "out")
    for path in project.glob("*.py"):
        path.rename(project.parent / path.name)
    forget()
    expect("evaluate", "out/small/a")
    expect("evaluate", "out/small/a/weights/best-live.safetensors", *(f"{key}={value}" for key, value in FREE.items()))


def test_a_comparison_goes_on_and_notices_a_changed_module(expect: Verb, project: Path):
    words = (
        "compare",
        "project/own.yaml",
        "data.args.n=12",
        "epochs=1",
        "--seeds",
        "1",
        "--name",
        "c",
        "--runs",
        "out",
    )
    expect(*words)
    expect(*words)
    with (project / "own_schedule.py").open("a") as file:
        file.write("# another\n")
    assert "own_schedule.py has been changed since the run was started" in expect(*words, code=2)


def test_a_function_may_make_data_and_schedule_and_is_given_the_seed(project: Path):
    write(project, data={"target": "own_data:plain"}, schedule={"target": "own_schedule:made", "args": {"start": 1}})
    assemblies = [check_config(load_config(project / "own.yaml", [f"seed={seed}"])) for seed in (1, 1, 2)]
    assert [each.resolved["data"]["args"] for each in assemblies] == [{"n": 24}] * 3
    first, again, other = (each.data.train.x for each in assemblies)
    assert first.equal(again)
    assert not first.equal(other)
    assert [assemblies[0].schedule.factor(t, 3) for t in range(3)] == [1.0, 0.5, 0.5]
    fixed = check_config(load_config(project / "own.yaml", ["seed=1", "data.args.seed=2"]))
    assert fixed.data.train.x.equal(other)
    assert fixed.resolved["data"]["args"] == {"seed": 2, "n": 24}


def test_a_model_that_asks_for_the_sizes_of_the_data_is_given_them(project: Path):
    write(project, model={"target": "own_net:Bare"})
    assembly = check_config(load_config(project / "own.yaml"))
    assert assembly.engine.model[2].weight.shape == (2, 64)
    assert "args" not in assembly.resolved["model"]
    write(project, model={"target": "own_net:Bare", "args": {"num_classes": 3}})
    with pytest.raises(InputError, match=r"expected logits of shape \(2, 2\), got \(2, 3\)"):
        check_config(load_config(project / "own.yaml"))


def test_arguments_of_a_model_have_the_types_of_its_defaults(project: Path):
    write(project, model={"target": "own_net:Bare", "args": {"bias": Word("no"), "p": "1/4"}})
    assembly = check_config(load_config(project / "own.yaml"))
    assert assembly.engine.model[2].bias is None
    assert assembly.resolved["model"]["args"] == {"bias": False, "p": 0.25}


MISTAKES = {
    "unknown key": ("data", {"target": "own_data:Stripes", "args": {"nn": 3}}, r"data\.args\.nn: unknown key; did you"),
    "beside args": ("data", {"target": "own_data:Stripes", "n": 3}, r"data\.n: unknown key; arguments of target go un"),
    "out of bounds": (
        "data",
        {"target": "own_data:Stripes", "args": {"n": 3}},
        r"data\.args\.n: expected greater than",
    ),
    "a name too": ("data", {"target": "own_data:Stripes", "name": "npz"}, "data: expected exactly one of name and tar"),
    "args of a name": ("data", {"name": "npz", "args": {"n": 1}}, r"data\.args: args belong to target; write settings"),
    "no such class": ("data", {"target": "own_data:Stripe"}, "module own_data has no 'Stripe'; did you mean 'Stripes'"),
    "no such module": ("data", {"target": "own_dta:Stripes"}, r"No module named 'own_dta' \(looked in .*project, .*"),
    "a dangerous function": (
        "data",
        {"target": "os:system", "args": {"command": "exit"}},
        "os:system is refused: expe",
    ),
    "a dangerous class": (
        "data",
        {"target": "subprocess:Popen"},
        r"Popen is refused: expected a class with a method l",
    ),
    "a loader of code": ("data", {"target": "pickle:Unpickler"}, r"pickle:Unpickler is refused: expected a class with"),
    "not annotated": (
        "data",
        {"target": "own_data:unannotated"},
        r"unannotated is refused: .* def data\(\.\.\.\) -> D",
    ),
    "annotated as another": (
        "data",
        {"target": "own_data:NoData"},
        r"NoData is refused: expected a class with a method",
    ),
    "no data after all": ("data", {"target": "own_data:Liar"}, r"data: own_data:Liar loaded a list, expected a buttre"),
    "a function without data": (
        "data",
        {"target": "own_data:lying"},
        "data: own_data:lying loaded a tuple, expected a ",
    ),
    "a generator": ("data", {"target": "own_data:yielding"}, "data: own_data:yielding loaded a generator, expected a "),
    "it raises": ("data", {"target": "own_data:Broken"}, r"data: KeyError: 'nothing' \(own_data\.py:\d+\)"),
    "labels in a list": (
        "data",
        {"target": "own_data:Listed"},
        r"data: Split: expected y to be a dense tensor .*own_data\.py:\d+",
    ),
    "a split that raises": (
        "data",
        {"target": "own_data:Raising"},
        r"data: own_data:Raising: KeyError: 'n' \(own_data",
    ),
    "positional": (
        "data",
        {"target": "own_data:Positional"},
        r"data\.target: Positional: setting 'n' must be keyword-only: .* \(own_data\.py:\d+\)",
    ),
    "no schedule": (
        "schedule",
        {"target": "own_data:Stripes"},
        r"schedule\.target: own_data:Stripes is refused: expec",
    ),
    "infinite factor": (
        "schedule",
        {"target": "own_schedule:Growing"},
        r"expected factor\(1, 3\) to be a finite number",
    ),
    "no such time": (
        "schedule",
        {"target": "own_schedule:Sometimes"},
        "attribute per that is 'epoch' or 'batch', got '",
    ),
    "drops raises": (
        "schedule",
        {"target": "own_schedule:Raises"},
        r"schedule\.target: own_schedule:Raises: KeyError: ",
    ),
    "fraction of 1": (
        "schedule",
        {"target": "own_schedule:Halves", "args": {"start": 1.0}},
        r"schedule\.args\.start: e",
    ),
    "no model": (
        "model",
        {"target": "own_data:Stripes"},
        r"model\.target: own_data:Stripes is refused: expected a clas",
    ),
    "unknown model key": (
        "model",
        {"target": "own_net:Net", "args": {"widht": 3}},
        r"model\.args\.widht: unknown key; d",
    ),
    "model raises": (
        "model",
        {"target": "own_net:Net", "args": {"width": -1}},
        r"own_net:Net refused args .* RuntimeError",
    ),
    "no whole number": (
        "model",
        {"target": "own_net:Net", "args": {"width": "x"}},
        r"model\.args\.width: expected a valid integer, got 'x'",
    ),
    "a word that no type explains": (
        "model",
        {"target": "own_net:Bare", "args": {"extra": Word("no")}},
        r"model\.args\.extra: expected true, false or null, or quotes around a text \('no'\), got no",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_wrong_target_is_one_clear_error_at_its_line(case: str, project: Path):
    section, entry, message = MISTAKES[case]
    with pytest.raises(InputError) as refusal:
        check_config(load_config(write(project, **{section: entry})))
    line = next(n for n, text in enumerate(write(project).read_text().splitlines(), 1) if text.startswith(section))
    message_text = str(refusal.value)
    assert re.search(message, message_text), message_text
    place = re.match(r"\S*own\.yaml:(\d+): ", message_text)
    assert place, message_text
    assert line <= int(place[1]) <= line + 5


def test_a_module_of_another_folder_is_not_mistaken_for_the_configs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (project / "twice.py").write_text(NET)
    other = tmp_path / "other"
    other.mkdir()
    (other / "twice.py").write_text(NET)
    assert import_target("twice:Net", "here", project).__name__ == "Net"
    with pytest.raises(InputError, match=r"module 'twice' is .*other.* another one .* is loaded already, .*project"):
        import_target("twice:Net", "here", other)
    forget()
    monkeypatch.setattr("sys.path", [str(project), *sys.path, str(other)])  # as PYTHONPATH may have them
    imported = import_target("twice:Net", "here", other)
    assert sys.modules[imported.__module__].__file__ == str(other / "twice.py")


def test_a_module_with_a_mistake_is_named_with_its_line(project: Path):
    (project / "mistaken.py").write_text("x = 1\nraise SystemExit('gone')\n")
    with pytest.raises(InputError, match=r"cannot be imported: SystemExit: gone \(mistaken\.py:2\)"):
        import_target("mistaken:Net", "here", project)
    (project / "mistyped.py").write_text("x = 1\n\ny = (\n")
    with pytest.raises(InputError, match=r"SyntaxError: '\(' was never closed \(mistyped\.py:3\)"):
        import_target("mistyped:Net", "here", project)


def test_where_a_module_comes_from(project: Path):
    package = project / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(NET)
    import_target("own_package.nets:Net", "here", project)
    recorded = origin("own_package.nets:Net", project)
    assert (recorded["folder"], recorded["file"]) == (str(project), "own_package/nets.py")
    assert recorded["sha256"] == sha256(NET.encode()).hexdigest()

    sys.path.append(str(project))  # as with PYTHONPATH: not a folder of the config, and no distribution
    forget()
    import_target("own_package.nets:Net", "here", project.parent)
    assert origin("own_package.nets:Net", project.parent) == recorded

    import_target("torchvision.models:resnet18", "here", project)
    assert origin("torchvision.models:resnet18", project) == {
        "target": "torchvision.models:resnet18",
        "distribution": "torchvision",
        "version": version("torchvision"),
    }
