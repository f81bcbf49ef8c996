"""The packages that the check needs: which of them a machine lacks, and how they come onto it without a network."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT, PINS = ROOT / "pyproject.toml", ROOT / "constraints.txt"
NAMES = Path(__file__).with_name("packages.txt")
"""Names of all packages that may be carried, one a line: what buttress, its build and its tests need, at any depth."""
OWN = ("torch", "torchvision", "numpy")
"""Packages that a machine must have itself; what they need is theirs too."""
TOOLS = ("pytest", "hypothesis", "wheel")
"""Packages of the extra ``dev`` that the check needs."""


class NotReadyError(Exception):
    """The machine cannot run the check; the message says what is missing, and what to do."""


def install(wheels: Path, site: Path) -> None:
    """Install all wheels of the folder ``wheels`` into the folder ``site``, whose packages come first from here on."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise NotReadyError(f"--wheels {wheels}: expected a folder of wheels, found none")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    done = subprocess.run([*pip, "--no-deps", "--upgrade", "--target", str(site), *files], check=False)
    if done.returncode:
        raise NotReadyError(f"--wheels {wheels}: pip could not install them: see above")
    sys.path.insert(0, str(site))


def expect_all() -> None:
    """Expect all packages.

    Raises:
        NotReadyError: some are missing, or too old.
    """
    if lacking := [f"{name}>={least}" for name, least in needed().items() if name in OWN and not _is_there(name)]:
        raise NotReadyError(f"this machine needs its own {', '.join(lacking)}: {sys.executable} has none")
    if lacking := missing():
        raise NotReadyError(
            f"{len(lacking)} packages are missing or too old: {', '.join(lacking)}. --missing lists them for "
            "`pip download`, and --wheels FOLDER takes the folder that it makes (see --help)"
        )


def missing() -> list[str]:
    """Packages that are not there or older than pyproject.toml allows, in the versions of constraints.txt."""
    pins = dict(line.split("==") for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line)
    pins = {normal(name): pin for name, pin in pins.items()}
    return [f"{name}=={pins[name]}" for name in NAMES.read_text(encoding="utf-8").split() if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return _numbers(version(name)) >= _numbers(needed().get(name, "0"))
    except PackageNotFoundError:
        return False


@cache
def needed() -> dict[str, str]:
    """The lowest version of each package that is needed directly, by its name."""
    file = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    project = file["project"]
    tools = [line for line in project["optional-dependencies"]["dev"] if line.partition(">=")[0] in TOOLS]
    lines = [*project["dependencies"], *file["build-system"]["requires"], *tools]
    return {normal(name): least for name, _, least in (line.partition(">=") for line in lines)}


def normal(name: str) -> str:
    """The name of a package in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, without what is after a plus sign."""
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])))
