"""Settings of matplotlib that do not depend on the working folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_latex() -> Iterator[None]:
    """Let matplotlib itself draw the texts within the block; also a decorator.

    A ``matplotlibrc`` in the working folder may hand every text to LaTeX, and LaTeX executes texts.
    """
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False}):
        yield


def literal(text: str) -> str:
    """Text for matplotlib to draw as it is: two dollar signs would enclose a formula, and a wrong one is an error."""
    return text.replace("$", r"\$")
