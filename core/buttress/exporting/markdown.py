"""Escape foreign text in Markdown, so that it becomes no link, no picture, no cell of a table and no HTML."""

from __future__ import annotations

import re


def plain_text(words: object) -> str:
    """``words`` in one line in which Markdown finds no HTML, link, picture or end of a table's cell."""
    line = re.sub(r"\s+", " ", str(words)).strip()
    return line.replace("<", "&lt;").replace("](", "]\\(").replace("][", "]\\[").replace("|", "\\|")
