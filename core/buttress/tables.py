"""Plain-text tables, the same on a terminal, in a log and in a document."""

import textwrap
from collections.abc import Sequence

from buttress.training.selection import Row


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be: text to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in cells) and bool(cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, cells)])


def summary_table(rows: Sequence[Row], attack: str) -> str:
    """Best, last and diff of every track, in percent."""
    header = ["track", "best epoch", "clean best", "last", "diff", f"{attack} best", "last", "diff", "n"]
    return table(
        header,
        [
            [
                row.track,
                row.best_epoch,
                *(f"{100 * value:.1f}" for value in (row.clean_best, row.clean_last, row.clean_diff)),
                *(f"{100 * value:.1f}" for value in (row.robust_best, row.robust_last, row.robust_diff)),
                row.n,
            ]
            for row in rows
        ],
    )


def wrapped(text: str, width: int) -> str:
    """``text`` with every line that is wider than ``width`` broken between words; a longer word stays whole."""
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        if len(line) > width
        else line
        for line in text.split("\n")
    )


def duration(seconds: float) -> str:
    """``"3 min 20 s"``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()
