"""The tutorial as it is written: every file that it shows, every command, in an environment of its own."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from .blocks import blocks, text_of
from .runner import run_page

PAGE = "tutorial.md"
NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def test_from_plugins_new_to_a_row_of_a_comparison_in_ten_commands_at_most(
    environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [command for block in blocks(PAGE) for command in block.commands]
    assert commands[0].startswith("buttress plugins new my-defense")
    assert len(commands) <= 10
    files = {block.title for block in blocks(PAGE) if block.title}
    assert f"{NUMBERS[len(commands)]} commands and {NUMBERS[len(files)]} files" in text_of(PAGE)
    monkeypatch.chdir(tmp_path)
    run_page(PAGE, environment, everything=True)
    assert files <= {path.as_posix() for path in Path("buttress-my-defense").rglob("*")}
    found = json.loads(Path("runs/compare/comparison.json").read_text())
    rows = {row["method"]: row for row in found["rows"]}
    assert rows.keys() == {"digits-pgd-at", "digits-my-defense"}
    assert Path("report.html").is_file()
