"""A disk or a folder that refuses is one clear error, and costs nothing that was saved."""

from pathlib import Path

import pytest

from .refusals import CASES, refuse, stopped_run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_run(tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize("name", CASES)
def test_resume_is_loud_and_harmless_while(stopped: Path, name: str):
    assert refuse(stopped, CASES[name]) == []
