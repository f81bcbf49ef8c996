"""One throw-away environment and one finished run for the pages of a test file; each page works in a copy."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from .runner import run_page
from .stage import copy_for, make_environment, make_folder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return make_environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture
def run(
    stage: Path, environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Runs the blocks of a page that are not slow."""
    monkeypatch.chdir(tmp_path)

    def in_folder(page: str) -> None:
        copy_for(page, stage, tmp_path)
        run_page(page, environment)

    return in_folder
