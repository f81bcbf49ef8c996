"""The example of ``docs/own_modules.md`` works as it is shown: its files beside its config, trained and resumed."""

import json
from pathlib import Path

import pytest

from buttress.cli import main

from .docs.blocks import blocks


def test_the_example_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "project"
    folder.mkdir()
    files = {block.title: block.code for block in blocks("own_modules.md") if block.title}
    assert files.keys() == {"cells.yaml", "my_data.py", "my_net.py", "my_schedule.py"}
    for name, text in files.items():
        (folder / name).write_text(text)

    assert main(["train", "project/cells.yaml", "--run", "first"]) == 0
    run = tmp_path / "runs" / "cells" / "first"
    (row, median) = json.loads((run / "summary.json").read_text())["tracks"]
    assert (median["track"], row["n"]) == ("meat", 169)
    assert row["clean_last"] > 0.85
    assert main(["evaluate", str(run), "--examples", "50"]) == 0
    assert main(["analyze", str(run), "--part", "label_noise"]) == 0
