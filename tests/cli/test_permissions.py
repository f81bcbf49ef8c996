"""Every file and folder that a command makes has the permissions that the umask leaves it, as any program's have."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttress.cli import main


@pytest.fixture
def umask() -> Iterator[int]:
    own = 0o026  # such that a file of fixed permissions, 0600 or 0644, is noticed
    before = os.umask(own)
    yield own
    os.umask(before)


def wrong(folder: Path, umask: int) -> dict[str, str]:
    """Paths and permissions of what is not as a file or folder made under ``umask`` would be."""
    modes = {path: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    return {
        str(path.relative_to(folder)): oct(mode)
        for path, mode in modes.items()
        if mode != ((0o777 if path.is_dir() else 0o666) & ~umask)
    }


def test_what_commands_write_has_the_permissions_of_the_umask(workspace: Path, umask: int):
    made = workspace / "made"
    made.mkdir()
    train = ["train", "small.yaml", "--runs", "made/runs", "--run", "a", "loggers=[tensorboard]", "checkpoint.keep=4"]
    assert main(train) == 0
    (run,) = (made / "runs").glob("*/a")
    names = [str(path) for path in sorted((run / "history").rglob("*.safetensors"))[:2]]
    assert names
    for command in (
        ["evaluate", str(run), "--examples", "20"],
        ["analyze", str(run), "--examples", "20", "--part", "histogram"],
        ["report", str(run), "--output", "made/report.html"],
        ["export", str(run), "--output", "made/exported"],
        ["ensemble", *names, "--output", "made/plain.safetensors"],
        ["ensemble", *names, "--reestimate", str(run), "--output", "made/whole.safetensors"],
        ["compare", "small.yaml", "epochs=1", "--seeds", "1", "--runs", "made/compare"],
        ["plugins", "new", "mine", "--output", "made/mine"],
    ):
        assert main(command) == 0, command
    assert len(list(made.rglob("*.safetensors"))) > 10
    assert wrong(made, umask) == {}
