"""The pages of the documentation, the files README.md beside them, and the fenced blocks of each.

A block whose first line is the comment ``# slow: REASON`` runs in ``make docs`` only, one with ``# not run: REASON``
never. A block with a title (```` ```yaml title="config.yaml" ````) is a file of that name.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = tuple(sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")))
# What stands outside of the site: relative to ``docs/``, as pages are.
READMES = ("../README.md", "../examples/README.md", "../examples/external_plugin/README.md")
LANGUAGES = frozenset({"console", "cpp", "python", "sh", "text", "toml", "yaml"})

FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"# (slow|not run): (\S.*)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        language: as written after the fence.
        title: name of the file that it is, or None.
        line: of its opening fence, from 1.
        code: its text.
    """

    language: str
    title: str | None
    line: int
    code: str

    @property
    def mark(self) -> str | None:
        """``slow``, ``not run`` or None."""
        found = _MARK.match(self.code)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Of a ``sh`` or ``console`` block: its commands, continued lines joined; output and comments left out."""
        if self.language not in ("console", "sh"):
            return []
        lines = re.sub(r"\\\n\s*", "", self.code).splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page or README, in order."""
    text = text_of(page)
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1, m[3]) for m in FENCE.finditer(text)]
