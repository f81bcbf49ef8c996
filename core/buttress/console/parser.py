"""The parser of the command line: what it says of words that are given to it is fit for a terminal."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from buttress.console.output import print_to
from buttress.console.visible import visible

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
# Characters of a word that an error quotes, at most.
_QUOTED = 40


class Parser(argparse.ArgumentParser):
    """A parser whose help and errors are fit for a terminal, whatever was given to it."""

    def _print_message(self, message: str, file: Any = None) -> None:
        print_to("stderr" if file is None or file is sys.stderr else "stdout", visible(message).rstrip("\n"))

    def add_subparsers(self, **options: Any) -> Any:
        return super().add_subparsers(parser_class=type(self), **options)


def whole_number(text: str) -> int:
    """The type of an option that takes a whole number of at most 18 digits.

    Raises:
        ArgumentTypeError: it is none; digits of other scripts and underscores between them are not taken.
    """
    if not _WHOLE.fullmatch(text):
        shown = repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...")
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 18 digits, got {shown}")
    return int(text)
