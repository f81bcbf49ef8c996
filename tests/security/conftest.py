"""A stranger's run folders: their code leaves a trace, ``canary``, when it is executed."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from buttress.cli import main

CANARY = "from pathlib import Path\nPath('canary').touch()\n"

PLUGINS = f'''"""Source: nobody."""
{CANARY}
from buttress import hookimpl


class Quiet:
    """Does nothing."""

    @hookimpl
    def adjust_grads(self):
        pass


class Still:
    """An attack that does not move."""

    @hookimpl
    def generate_adv(self, batch):
        return batch.x.clone()
'''

NET = f"""{CANARY}
from torch import nn

from helper import WIDTH


def net(width: int = WIDTH) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


class Halve:
    per = "epoch"

    def factor(self, t, epochs):
        return 0.5 if t >= 1 else 1.0

    def drops(self, epochs):
        return [1]
"""

CONFIG = {
    "name": "tiny",
    "data": {"name": "npz", "path": "tiny.npz", "batch_size": 6},
    "model": {"name": "mlp", "hidden": [4]},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": ["fgsm"],
    "optimizer": {"lr": 0.1},
    "epochs": 2,
    "evaluation": {"attack": {"fgsm": {}}},
}

OWN = {
    "file": {"plugins": ["fgsm", "quiet"], "plugins_file": "mine.py"},
    "attack": {"plugins": ["fgsm", "quiet"], "plugins_file": "mine.py", "evaluation": {"attack": "still"}},
    "target": {"model": {"target": "own_net:net"}, "schedule": {"target": "own_net:Halve"}},
}
"""Name of a run to what its config says beside ``CONFIG``."""

Command = Callable[..., int]


def forget_modules() -> None:
    """As in a process that has imported none of it."""
    for name in [name for name in sys.modules if name.startswith(("buttress_plugins_file_", "own_net", "helper"))]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stranger, with finished runs ``runs/tiny/file``, ``attack`` and ``target``."""
    folder = tmp_path_factory.mktemp("stranger")
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 12), ("val", 8), ("test", 8)):
        arrays |= {f"x_{split}": rng.random((n, 1, 4, 4), dtype=np.float32), f"y_{split}": np.arange(n) % 3}
    np.savez(folder / "tiny.npz", **arrays)
    for name, text in (("mine.py", PLUGINS), ("own_net.py", NET), ("helper.py", "WIDTH = 4\n")):
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, own in OWN.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump({**CONFIG, **own}, sort_keys=False))
            assert main(["train", f"{name}.yaml", "--run", name]) == 0
            forget_modules()
    (folder / "canary").unlink()
    return folder


@pytest.fixture
def stranger(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, a copy of the stranger's, of a user who has trusted nothing."""
    shutil.copytree(made, tmp_path / "downloads")
    monkeypatch.chdir(tmp_path / "downloads")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    forget_modules()
    yield tmp_path / "downloads"
    forget_modules()


def executed() -> bool:
    """Whether code of the stranger has run since this was last asked; it is forgotten."""
    trace = Path("canary")
    was_executed = trace.exists()
    trace.unlink(missing_ok=True)
    forget_modules()
    return was_executed
