"""Where the blocks of the documentation run: a throw-away environment, and a folder as the pages assume it.

The folder holds ``configs/`` and ``examples/`` of the repository, the configs shortened to two epochs on few examples,
and ``runs/demo/first``, a finished run of ``configs/demo.yaml``.
"""

import contextlib
import io
import os
import shutil
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

from buttress.cli import main
from buttress.config.yaml_source import dump_yaml, read_yaml

from .blocks import ROOT, blocks

_SCRIPT = """#!{python}
import runpy, sys
sys.argv[0] = "{module}"
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""


def make_environment(folder: Path, recipes: Path = ROOT / "configs") -> dict[str, str]:
    """A virtual environment of one's own; installing into it leaves the running one as it is.

    It sees this repository and the packages of the running environment, which are appended to its path.

    Args:
        folder: to be made.
        recipes: what ``buttress:...`` stands for there.

    Returns: the variables of a shell in which it is active.
    """
    venv.create(folder, with_pip=False)
    binaries, python = folder / "bin", folder / "bin" / "python"
    for module in ("buttress", "pip", "pytest"):
        script = binaries / module
        script.write_text(_SCRIPT.format(python=python, module=module))
        script.chmod(0o755)
    seen = [ROOT / "core", ROOT / "plugins", *_entry_points(), *map(sysconfig.get_path, ("purelib", "platlib"))]
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    (site / "seen.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(seen)))
    (site / "buttress_recipes").symlink_to(recipes)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "XDG_CONFIG_HOME": str(folder / "configuration"),  # what buttress remembers about its user
        "OMP_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which means no isolation: it would fetch setuptools
        "PIP_NO_INDEX": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }


def _entry_points() -> list[str]:
    """Folders on the path that hold the metadata of buttress."""
    return [path for path in sys.path if path and any(Path(path).glob("buttress-*info"))]


def make_folder(folder: Path) -> Path:
    """The folder that pages assume, without their changing anything of the repository."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for source in [ROOT / "configs" / "demo.yaml", *(ROOT / "configs" / "digits").glob("*.yaml")]:
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dump_yaml(shortened(read_yaml(source).value)))
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", "configs/demo.yaml", "--run", "first"]) == 0
    return folder


def copy_for(page: str, stage: Path, folder: Path) -> None:
    """Give a page its own copy of the folder; without the finished run where the page makes it."""
    commands = [command for block in blocks(page) for command in block.commands]
    made = any(command.startswith("buttress train configs/demo.yaml --run first") for command in commands)
    shutil.copytree(stage, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs") if made else None)


def shortened(config: dict[str, Any]) -> dict[str, Any]:
    """A config of digits with two short epochs; its methods and their settings stay."""
    data = config["data"] | {"train_per_class": 16, "validation": 40, "batch_size": 40}
    evaluation = config["evaluation"] | {"every": 1, "attack": {"pgd": {"steps": 2}}}
    return config | {"data": data, "evaluation": evaluation, "epochs": 2, "checkpoint": {"every": 1, "keep": 2}}
