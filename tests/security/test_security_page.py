"""The page on security names a test for every promise, and every test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

from buttress.cli.main import buttress

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_promise_has_its_test(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_a_test() -> None:
    table = PAGE.partition("## What is promised")[2].partition("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(NAMED) >= 20


def test_every_verb_that_asks_is_in_the_table() -> None:
    table = PAGE.partition("## Verb by verb")[2].partition("##")[0]
    asking = [name for name, verb in buttress.commands.items() if any("--trust" in each.opts for each in verb.params)]
    assert len(asking) >= 9
    assert all(f"`{name}" in table for name in asking)
