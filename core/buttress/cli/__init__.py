"""The command line: one file for each group of verbs, in which every verb is declared above the function it calls."""

from buttress.cli.main import main

__all__ = ["main"]
