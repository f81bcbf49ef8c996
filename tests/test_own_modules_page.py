"""The example of ``docs/own_modules.md`` works as it is shown: its files beside its config, trained and resumed."""

import json
import re
import sys
from pathlib import Path

import pytest

from buttress.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "own_modules.md"


def test_the_example_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "project"
    folder.mkdir()
    for language, text in blocks:
        if language == "python":
            (folder / text.partition("\n")[0].removeprefix("# ")).write_text(text)
    (folder / "cells.yaml").write_text(next(text for language, text in blocks if language == "yaml"))
    assert {path.name for path in folder.iterdir()} == {"cells.yaml", "my_data.py", "my_net.py", "my_schedule.py"}

    assert main(["train", "project/cells.yaml", "--run", "first"]) == 0
    run = tmp_path / "runs" / "cells" / "first"
    (row, median) = json.loads((run / "summary.json").read_text())["tracks"]
    assert (median["track"], row["n"]) == ("meat", 169)
    assert row["clean_last"] > 0.85
    assert main(["evaluate", str(run), "--examples", "50"]) == 0
    assert main(["analyze", str(run), "--part", "label_noise"]) == 0
