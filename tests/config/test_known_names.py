"""Names of a config that stand for nothing are refused together, before anything is loaded."""

import re
from pathlib import Path

import pytest
import yaml

from buttress.config.file import load_config
from buttress.errors import PluginError
from buttress.training import assembly, launch
from buttress.training.assembly import check_config

CONFIG = {
    "name": "small",
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": [{"pgd": {"steps": 1}}],
    "optimizer": {"lr": 0.1},
    "epochs": 1,
    "evaluation": {"attack": "pgd-20"},
}
MINE = """
from buttress import hookimpl

class Mine:
    @hookimpl
    def adjust_grads(self): ...

class Cooled:
    def input_loss(self, model, batch, ctx): ...
"""


class LoadedError(Exception):
    """Raised in the place of loading the data."""


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_data(file: object) -> None:
        raise LoadedError

    monkeypatch.setattr(assembly, "load_data", load_data)
    monkeypatch.setattr(launch, "load_data", load_data)


def written(folder: Path, **changes: object) -> Path:
    (folder / "mine.py").write_text(MINE)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def test_all_unknown_names_are_refused_at_once_with_their_places_and_before_the_data(tmp_path: Path):
    wrong = {
        "data": {"name": "digts", "extra": {"name": "cifr10", "share": 0.5}},
        "model": {"name": "mpl"},
        "schedule": {"name": "cosin"},
        "plugins": ["pdg", "mine", "swa", {"swaa": {}}],
        "loggers": ["tensorbord"],
        "evaluation": {"attack": "pdg-20"},
        "plugins_file": "mine.py",
    }
    expected = {
        "data.name": "unknown dataset 'digts'; did you mean 'digits'",
        "data.extra.name": "unknown dataset 'cifr10'; did you mean 'cifar10'",
        "model.name": "unknown model 'mpl'; did you mean 'mlp'",
        "schedule.name": "unknown schedule 'cosin'; did you mean 'cosine'",
        "plugins.pdg": "unknown plugin 'pdg'; did you mean 'pgd'",
        "plugins.swaa": "unknown plugin 'swaa'; did you mean 'swa'",
        "loggers.tensorbord": "unknown logger 'tensorbord'; did you mean 'tensorboard'",
        "evaluation.attack.pdg": "unknown attack 'pdg'; did you mean 'pgd'",
    }
    file = load_config(written(tmp_path, **wrong))
    with pytest.raises(PluginError) as caught:
        check_config(file)
    lines = [re.sub(r"^\S*small\.yaml:\d+: ", "", line) for line in str(caught.value).splitlines()]
    assert [(line.partition(": ")[0], line.partition(": ")[2].partition("?")[0]) for line in lines] == [
        *expected.items()
    ]
    with pytest.raises(PluginError, match="unknown plugin 'pdg'"):
        launch.start(file, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{}, {"plugins_file": "mine.py", "plugins": ["pgd", "mine"]}, {"model": {"target": "own:Net"}}],
    ids=["installed", "of its file", "target"],
)
def test_known_names_go_on_to_the_data(changes: dict[str, object], tmp_path: Path):
    with pytest.raises(LoadedError):
        check_config(load_config(written(tmp_path, **changes)))


def test_a_loss_of_the_file_is_no_plugin(tmp_path: Path):
    with pytest.raises(PluginError, match=r"small\.yaml:\d+: plugins\.cooled: unknown plugin 'cooled'"):
        check_config(load_config(written(tmp_path, plugins_file="mine.py", plugins=["cooled"])))
