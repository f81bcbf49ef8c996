"""What a torture found, and the page that says so."""

import os
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from buttress import __version__
from buttress.training.manifest import cpu_name

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
MARK = "<!-- From here on written by `make torture`; edit what stands above. -->"


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Args:
        title: of the section.
        text: what was done, in a sentence or two.
        rows: what was counted, and the count, or a figure with its unit.
        lost: one line for each thing that was lost, silent or different; none is what is promised.
    """

    title: str
    text: str
    rows: Sequence[tuple[str, int | str]]
    lost: Sequence[str] = ()

    def markdown(self) -> str:
        counts = [count if isinstance(count, str) else f"{count:,}" for _, count in self.rows]
        table = ["| counted | |", "|---|---|"]
        table += [f"| {what} | {count} |" for (what, _), count in zip(self.rows, counts, strict=True)]
        verdict = [f"- LOST: {line}" for line in self.lost] or ["Nothing lost."]
        return "\n".join([f"### {self.title}", "", _wrapped(self.text), "", *table, "", *verdict])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def write_page(sections: Sequence[Section], seed: int, seconds: float) -> None:
    """Replace the generated part of ``docs/reliability.md``; the last line, words for the site's search, stays."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    words = "".join(rest.partition("*Other words:")[1:]).strip()
    facts = (
        f"buttress {__version__}, Python {platform.python_version()}, torch {torch.__version__}, safetensors "
        f"{version('safetensors')}, {platform.system()} {platform.machine()}, {cpu_name()}, {os.cpu_count()} cores, "
        f"one thread, seed {seed}, {date.today().isoformat()}, {seconds / 60:.0f} minutes: `make torture`."
    )
    lost = sum(len(section.lost) for section in sections)
    verdict = f"{len(sections)} sections, {lost:,} lost." if lost else f"{len(sections)} sections, nothing lost."
    parts = [head + MARK, "## What was counted", _wrapped(f"{facts} {verdict}")]
    PAGE.write_text(
        "\n\n".join([*parts, *(section.markdown() for section in sections), words]) + "\n", encoding="utf-8"
    )
