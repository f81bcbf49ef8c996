"""Tables and numbers as text, the same on a terminal, in a log and in a document."""

import re
import textwrap
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import zip_longest

from buttress.console.visible import one_line

WIDTH = 80
"""Width of a terminal in columns, as most have it."""
# Least width of a column that is narrowed, in characters.
_NARROWEST = 8


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in plain text, each column as wide as its cells: text to the left, numbers to the right."""
    from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate  # 30 ms, which ``--help`` does without

    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    spaced = DataRow("", "  ", "")
    style = TableFormat(None, Line("", "-", "  ", ""), None, None, spaced, spaced, padding=0, with_header_hide=None)
    # The header is a row as others: tabulate would make each column two characters wider than its header.
    text = tabulate(
        [list(header), SEPARATING_LINE, *cells],
        tablefmt=style,
        colalign=_alignments(len(header), cells),
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; bars within cells are escaped by the caller."""
    from tabulate import tabulate

    cells = [[str(cell) for cell in row] for row in rows]
    alignments = _alignments(len(header), cells)
    return str(tabulate(cells, header, tablefmt="pipe", colalign=alignments, disable_numparse=True))


def _alignments(columns: int, rows: Sequence[Sequence[str]]) -> list[str]:
    """``"right"`` for columns of numbers, ``"left"`` for others."""
    texts = [[row[i] for row in rows if row[i]] for i in range(columns)]
    return ["right" if rows and all(map(_is_number, column)) else "left" for column in texts]


def fitted(header: Sequence[str], rows: Sequence[Sequence[object]], width: int = WIDTH, names: int = 2) -> str:
    """A ``table`` at most ``width`` characters wide: cells of the first ``names`` columns are broken if need be."""
    lines = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths[:names]) > _NARROWEST:
        widths[widths.index(max(widths[:names]))] -= 1
    cells = [[_broken(cell, widths[i]) if i < names else [cell] for i, cell in enumerate(line)] for line in lines]
    return table(header, [row for line in cells for row in zip_longest(*line, fillvalue="")])


def _broken(cell: str, width: int) -> list[str]:
    """A cell as lines, broken between words, and within words that are wider than the column."""
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


_COMMAND = re.compile(r"\s*(?:\w+: )?buttress [a-z-]+ ")
"""The beginning of a line that is a command of buttress."""


def wrapped(text: str, width: int) -> str:
    """``text`` with every line that is wider than ``width`` broken between words; a longer word stays whole.

    After a break, the line goes on two columns further to the right. A line that is a command, also behind a word and a
    colon (``cure: buttress ...``), stays whole, to be copied.
    """

    def broken(line: str) -> str:
        indent = line[: len(line) - len(line.lstrip())] + "  "
        return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

    lines = text.split("\n")
    return "\n".join(broken(line) if len(line) > width and not _COMMAND.match(line) else line for line in lines)


def percent(share: float, places: int = 1, *, sign: bool = False) -> str:
    """A share in percent: ``"64.2"`` for 0.6415. Every percentage in the output comes from here.

    Halves are rounded away from zero. The decimal number is rounded, not the binary number that stands for it: digits
    beyond the twelfth are noise of floating-point arithmetic. There is no ``"-0.0"``.

    Args:
        share: an accuracy, or a difference or a deviation of accuracies; 1 is 100 %.
        places: decimal places.
        sign: whether ``+`` stands before a number that is not negative.
    """
    exact = 100 * Decimal(f"{share:.12f}")
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP) + 0  # + 0: no minus before a zero
    return f"{rounded:+f}" if sign else f"{rounded:f}"


def duration(seconds: float) -> str:
    """``"3 min 20 s"``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()
