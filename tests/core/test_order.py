"""The slowest files of tests run first, however few tests they have."""

from pathlib import Path

import pytest

from ..conftest import SLOWEST

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", SLOWEST)
def test_a_file_that_runs_first_is_there(name: str):
    assert (TESTS / name.removeprefix("tests/")).is_file()


def test_the_check_keeps_the_order():
    check = (TESTS.parent / "scripts" / "check").read_text(encoding="utf-8")
    assert "--dist loadfile --no-loadscope-reorder" in check
