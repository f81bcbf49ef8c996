"""Code that lies in the working folder runs by no command that was not told to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import buttress
from buttress.processes import python_command, python_environment
from buttress.storage.git import git_state

CANARY = "open('canary', 'w').close()\n"

# Modules of Python that every command imports, some only in a process that it starts.
NAMES = ("json", "typing", "types", "queue", "signal", "tempfile", "argparse", "numpy", "torch", "yaml")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, full of modules that leave a trace when they are executed."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(CANARY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "path", ["", ":", "{here}/elsewhere:", ":{here}/elsewhere"], ids=["none", "empty", "end", "start"]
)
def test_a_process_of_ours_imports_nothing_of_the_working_folder(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    if path:
        monkeypatch.setenv("PYTHONPATH", path.format(here=hostile))
    else:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    program = "import json, queue, typing, tempfile, yaml; print('ran')"
    done = subprocess.run(
        python_command(program), env=python_environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "ran\n"
    assert not (hostile / "canary").exists()


@pytest.mark.parametrize(
    "words",
    [("plugins", "show", "pgd", "--check"), ("plugins", "list", "--kind", "schedule", "--check"), ("--version",)],
    ids=["show", "list", "version"],
)
def test_commands_import_nothing_of_the_working_folder(hostile: Path, words: tuple[str, ...]) -> None:
    script = Path(sys.executable).with_name("buttress")
    done = subprocess.run([script, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "broken" not in done.stdout
    assert not (hostile / "canary").exists()


def test_python_m_buttress_imports_nothing_of_the_working_folder(tmp_path: Path) -> None:
    for name in ("click", "yaml", "shutil"):  # those that Python itself needs for -m are beyond us
        (tmp_path / f"{name}.py").write_text(CANARY)
    command = [sys.executable, "-m", "buttress", "recipes", "list", "digits/at"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "canary").exists()


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, a repository with one commit and a program that leaves a trace."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.sh").write_text("#!/bin/sh\ntouch canary\ncat\n")
    (tmp_path / "trace.sh").chmod(0o755)
    (tmp_path / "data.txt").write_text("one\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return tmp_path


def test_the_state_of_a_repository_is_known(repository: Path) -> None:
    clean = git_state()
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (repository / "data.txt").write_text("two\n")
    changed = git_state()
    assert changed == {**clean, "dirty": True}


def test_no_repository_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


def _monitor(folder: Path) -> None:
    git("config", "core.fsmonitor", "./trace.sh")


def _hook(folder: Path) -> None:
    hook = folder / ".git" / "hooks" / "post-index-change"
    shutil.copy(folder / "trace.sh", hook)


def _hooks_elsewhere(folder: Path) -> None:
    (folder / "hooks").mkdir()
    shutil.copy(folder / "trace.sh", folder / "hooks" / "post-index-change")
    git("config", "core.hooksPath", "hooks")


def _filter(folder: Path) -> None:
    git("config", "filter.a=b.c.clean", "./trace.sh")
    (folder / ".git" / "info" / "attributes").write_text("*.txt filter=a=b.c\n")


def _long_filter(folder: Path) -> None:
    git("config", "filter.evil.process", "./trace.sh")
    git("config", "filter.evil.required", "true")
    (folder / ".gitattributes").write_text("* filter=evil\n")


def _included_filter(folder: Path) -> None:
    (folder / "more").write_text('[filter "evil"]\n\tclean = ./trace.sh\n')
    git("config", "include.path", "../more")
    (folder / ".gitattributes").write_text("* filter=evil\n")


def _pager(folder: Path) -> None:
    for key in ("core.pager", "pager.status", "pager.rev-parse", "diff.external", "core.editor", "core.sshCommand"):
        git("config", key, "./trace.sh")


def _textconv(folder: Path) -> None:
    git("config", "diff.evil.textconv", "./trace.sh")
    git("config", "diff.evil.command", "./trace.sh")
    (folder / ".gitattributes").write_text("* diff=evil\n")


def _alias(folder: Path) -> None:
    git("config", "alias.status", "!./trace.sh")
    git("config", "alias.rev-parse", "!./trace.sh")


def _promised(folder: Path) -> None:
    """Objects that are to be fetched from a remote that is a program."""
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", "ext::./trace.sh"),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
    ):
        git("config", key, value)
    done = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], capture_output=True, text=True, check=True)
    tree = done.stdout.strip()
    (folder / ".git" / "objects" / tree[:2] / tree[2:]).unlink()


@pytest.mark.parametrize(
    "trap",
    [
        _monitor,
        _hook,
        _hooks_elsewhere,
        _filter,
        _long_filter,
        _included_filter,
        _pager,
        _textconv,
        _alias,
        _promised,
    ],
    ids=lambda trap: trap.__name__.strip("_"),
)
def test_nothing_of_a_repository_runs(repository: Path, trap: object) -> None:
    assert callable(trap)
    trap(repository)
    data = repository / "data.txt"
    data.write_text("two\n")  # as long as before: git has to look into it
    os.utime(data, ns=(0, 0))
    (repository / "canary").unlink(missing_ok=True)
    state = git_state()
    assert not (repository / "canary").exists()
    assert state is None or state["dirty"]


def test_every_process_of_ours_is_started_by_the_same_words() -> None:
    """A new ``[sys.executable, ...]`` would look for modules in the working folder again."""
    package = Path(buttress.__file__).parent
    sources = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    starting = {name for name, text in sources.items() if "[sys.executable" in text or '["git"' in text}
    assert starting == {"processes.py", "storage/git.py"}
    by_torchrun = {name for name, text in sources.items() if "sys.executable)" in text}
    assert by_torchrun == {"cli/processes.py"}
    assert '["-P", "-m", "buttress", ' in sources["cli/processes.py"]


DISTRIBUTION = """
from pathlib import Path

from buttress import hookimpl

Path("canary").touch()


class Evil:
    @hookimpl
    def generate_adv(self, batch):
        return batch.x.clone()
"""


def test_what_lies_in_the_working_folder_is_not_installed(hostile: Path) -> None:
    """A target that is installed has Python look into the working folder too, where a distribution may seem to lie."""
    metadata = hostile / "evil-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    points = "[buttress.attacks]\nevil = evil:Evil\n[buttress.plugins]\nevil = evil:Evil\n"
    (metadata / "entry_points.txt").write_text(points)
    (hostile / "evil.py").write_text(DISTRIBUTION)
    program = """
from buttress.components.own_modules import import_target
import_target("torchvision.models:resnet18", "here")
from buttress.components.sources import sources
print(*(each.name for kind in ("plugin", "attack") for each in sources(kind)))
"""
    for name in NAMES:
        (hostile / f"{name}.py").unlink()
    command, environment = python_command(program), python_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "pgd" in done.stdout.split()
    assert "evil" not in done.stdout.split()
