"""A copy of a run by hard links (``cp -al``) is another run, whatever files the two share."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from buttress.cli import main


def content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("link", ["hard", "to another file"])
def test_a_run_whose_files_have_further_names_changes_none_of_them(workspace: Path, link: str) -> None:
    assert main(["train", "small.yaml", "--run", "a"]) == 0
    (run,) = (workspace / "runs").glob("*/a")
    shutil.copytree(run, workspace / "copy", copy_function=os.link)
    with (workspace / "copy" / "metrics.jsonl").open("ab") as stream:  # records after the checkpoint are cut
        stream.write(b'{"event": "epoch"}\n')
    if link == "to another file":
        for name in ("metrics.jsonl", "log.txt"):
            path = workspace / "copy" / name
            path.rename(path.with_suffix(".real"))
            path.symlink_to(f"{path.stem}.real")
    before = content(run)
    assert main(["resume", str(workspace / "copy")]) == 0
    assert content(run) == before
