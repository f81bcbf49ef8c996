"""Every block of every page and README runs; the slow ones in ``make docs`` (``python -m tests.docs``)."""

import os
from collections.abc import Callable

import pytest

from buttress.errors import ButtressError

from . import runner
from .blocks import LANGUAGES, PAGES, READMES, Block, blocks
from .test_tutorial import PAGE as TUTORIAL  # its test is there

EVERYWHERE = (*READMES, *PAGES)


@pytest.mark.parametrize("page", [page for page in EVERYWHERE if blocks(page) and page != TUTORIAL])
def test_the_blocks_of_a_page_run(page: str, run: Callable[[str], None]) -> None:
    run(page)


@pytest.mark.parametrize("page", EVERYWHERE)
def test_every_block_says_what_it_is(page: str) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_blocks_that_are_not_run_are_rare_and_say_why() -> None:
    marked = [f"{page}:{block.line}" for page in EVERYWHERE for block in blocks(page) if block.mark == "not run"]
    assert len(marked) <= 10, marked  # half of them need a cluster, or several processes


def test_a_reason_without_a_known_mark_is_no_mark() -> None:
    assert Block("sh", None, 1, "# slow: trains\nbuttress doctor\n").mark == "slow"
    for comment in ("# slow:\n", "# slowly: trains\n", "# runs\n"):
        assert Block("sh", None, 1, comment).mark is None


def test_commands_are_joined_and_output_is_left_out() -> None:
    code = "# slow: why\n$ buttress train a.yaml \\\n    epochs=2  # two\nepoch 1/2\n$ buttress doctor\n"
    assert Block("console", None, 1, code).commands == ["buttress train a.yaml epochs=2  # two", "buttress doctor"]


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("sh", "false\n", "page.md:1: exit 1"),
        ("sh", "buttress config validate missing.yaml\n", "page.md:1: config validate missing.yaml: exit 2"),
        (
            "sh",
            "! buttress config validate missing.yaml\n! buttress config schema\n",
            "page.md:1: config schema: exit 0",
        ),
        ("yaml", "epochs: many\n", "page.md:1:1: epochs"),
        ("python", "assert 1 == 2, 'wrong sum'\n", "wrong sum"),
        ("toml", "= 1\n", "Invalid statement"),
    ],
)
def test_a_block_that_is_wrong_fails(language: str, code: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "blocks", lambda page: [Block(language, None, 1, code)])
    with pytest.raises((AssertionError, ButtressError, ValueError), match=message):
        runner.run_page("page.md", dict(os.environ))
