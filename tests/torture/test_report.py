"""The page that ``make torture`` writes."""

from pathlib import Path

import pytest

from . import report
from .report import MARK, Section, write_page


def test_the_page_keeps_what_a_person_wrote_and_says_what_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "page.md"
    page.write_text(f"By hand.\n\n{MARK}\n\nold numbers\n")
    monkeypatch.setattr(report, "PAGE", page)
    rows = [("kills", 1234), ("slope", "3.5 KiB")]
    write_page([Section("Kills", "Killed.", rows), Section("Soak", "Soaked.", rows, ["grew"])], seed=7, seconds=120)
    text = page.read_text()
    assert text.startswith(f"By hand.\n\n{MARK}\n")
    assert "old numbers" not in text
    assert "| kills | 1,234 |\n| slope | 3.5 KiB |\n\nNothing lost.\n" in text
    assert "- LOST: grew" in text
    told = " ".join(text.split())
    for fact in ("seed 7", "2 minutes: `make torture`", "cores", "torch", "2 sections, 1 lost."):
        assert fact in told
