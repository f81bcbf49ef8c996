"""Run checks of the throwaway plugin in several folders, each in a child process that writes ``outcome.json``.

``python -m tests.newcomer.check FOLDER...``: a child is forked after torch and other packages have been imported, which
takes longer than its checks. ``checks.json`` of a folder has the arguments of pytest; ``outcome.json`` gets the names
of the tests that passed, and of those that failed or could not be collected.
"""

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from .steps import NAME


class Outcome:
    """A pytest plugin that collects names of tests."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            self.failed.append(name)
        elif report.when == "call" and report.passed:
            self.passed.append(name)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def write_pages(folder: Path) -> None:
    """Write what ``make pages`` writes for the plugin."""
    sys.path.insert(0, str(folder / "scripts"))
    from recipes import all_recipes

    for path, text in all_recipes().items():
        (folder / "configs" / path).write_text(text, encoding="utf-8")
    runpy.run_module("tests.composition.pairs", run_name="__main__")
    page = runpy.run_path(str(folder / "scripts/method_pages.py"))
    page["page"](NAME).write_text(page["filled"](NAME), encoding="utf-8")


def check(folder: Path) -> None:
    """Check one folder, in this process."""
    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "plugins")]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    orders = json.loads((folder / "checks.json").read_text(encoding="utf-8"))
    if orders["pages"]:
        write_pages(folder)
    outcome = Outcome()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        pytest.main(["-q", "-p", "no:cacheprovider", *orders["arguments"]], plugins=[outcome])
    texts = {"passed": outcome.passed, "failed": outcome.failed, "printed": printed.getvalue()}
    (folder / "outcome.json").write_text(json.dumps(texts), encoding="utf-8")


def main(folders: list[str]) -> None:
    # Shared by all children; none of them imports a plugin.
    import sklearn.datasets  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    import buttress.training.assembly  # noqa: F401

    torch.set_num_threads(1)
    for folder in folders:
        child = os.fork()
        if child == 0:
            check(Path(folder))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
