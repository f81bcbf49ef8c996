"""Fill the generated parts of the pages in docs/; tests compare the pages with fresh parts.

A part stands between ``<!-- generated: NAME ARGUMENTS -->`` and ``<!-- end -->``; the rest of a page is by hand.
"""

import re
from collections.abc import Callable, Mapping, Sequence

PART = re.compile(r"(<!-- generated: (\w+)(?: ([^\n]+))? -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def filled(page: str, parts: Mapping[str, Callable[[str], str]]) -> str:
    """A page's text with each of its parts as ``parts`` makes it of the arguments.

    Raises:
        KeyError: the page asks for an unknown part.
    """

    def part(match: re.Match[str]) -> str:
        begin, name, arguments, end = match.groups("")
        return f"{begin}\n{parts[name](arguments)}\n\n{end}"

    return PART.sub(part, page)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    """Text as code, also in a table: forges and the site disagree about a bar within backticks."""
    if "|" in text:
        return f"<code>{re.sub(r'[&<>|*_`]', lambda match: f'&#{ord(match[0])};', text)}</code>"
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Text of a docstring or a help text as Markdown, in which only code is markup."""
    parts = re.split(r"(`[^`]*`)", text.replace("``", "`"))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"[*$\[\]]", lambda match: f"\\{match[0]}", text.replace("&", "&amp;").replace("<", "&lt;"))
