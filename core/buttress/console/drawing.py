"""How pictures are drawn with matplotlib, wherever the command is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_latex() -> Iterator[None]:
    """For all that is drawn inside, also as a decorator: matplotlib itself draws the texts.

    It reads a ``matplotlibrc`` of the working folder, which may hand every text to LaTeX; and LaTeX executes texts.
    """
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False}):
        yield
