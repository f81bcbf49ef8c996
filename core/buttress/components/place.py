"""The place of a key in a config, or of a setting given in code, as messages name it."""

from collections.abc import Callable

Where = Callable[[tuple[str | int, ...]], str]
"""Turns the path of a key inside a section into ``"file.yaml:12: plugins.pgd.steps"``."""


def in_code(name: str) -> Where:
    """Paths of settings that were given in code and not in a file."""
    return lambda path: ".".join([name, *map(str, path)])
