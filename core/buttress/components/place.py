"""Places of keys in a config, and of settings given in code, as messages name them. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from buttress.console.visible import one_line
from buttress.errors import InputError, keyed

OVERRIDE = "override "
"""Beginning of the line of a key that was given on the command line."""

KeyPath = tuple[str | int, ...]
"""Keys of mappings and positions in lists, from the top of a config down to a value."""


@dataclass(frozen=True)
class Place:
    """The place at which a value was given, for messages.

    ``place / "pgd" / "steps"`` is a place below ``place``. ``str(place)`` is its text in a message.

    Args:
        name: name of the file. For a value given in code: name of its component or argument.
        path: keys that lead to the value, from the outermost to the innermost.
        lines: file and line of every key, such as ``"digits.yaml:12"``, by path. None for a value given in code.
        folder: folder in which relative paths of the file are looked up first. None for a value given in code.
    """

    name: str
    path: KeyPath = ()
    lines: Mapping[KeyPath, str] | None = field(default=None, repr=False)
    folder: Path | None = field(default=None, repr=False)

    def __truediv__(self, key: str | int) -> Place:
        """The place of ``key`` in the value of this place."""
        return self.under(key)

    def under(self, *keys: str | int) -> Place:
        """The place that ``keys`` lead to from here."""
        return replace(self, path=(*self.path, *keys))

    def __str__(self) -> str:
        """``"digits.yaml:12: plugins.pgd.steps"``, with the line of the key or of the nearest key above it.

        A place in code has no line: ``"plugins.0.pgd.steps"``.
        """
        if self.lines is None:
            return ".".join([self.name, *map(str, self.path)])
        key = one_line(".".join(str(part) for part in self.path if not isinstance(part, int)))
        return ": ".join(part for part in (self._line(self.lines), key) if part)

    def _line(self, lines: Mapping[KeyPath, str]) -> str:
        known = self.path
        while known and known not in lines:
            known = known[:-1]
        return lines.get(known, self.name)

    @property
    def folders(self) -> list[Path]:
        """Folders in which a relative path given here is looked up, in that order; the working folder is the last.

        A path of the command line is looked up in the working folder alone, as every path there.
        """
        above = [self.path[: depth + 1] for depth in range(len(self.path))]
        by_hand = any((self.lines or {}).get(path, "").startswith(OVERRIDE) for path in above)
        own = [] if self.folder is None or by_hand else [self.folder]
        return list(dict.fromkeys([*own, Path.cwd()]))

    @contextmanager
    def error_context(self) -> Iterator[None]:
        """Put this place before the message of every ``InputError`` that is raised inside."""
        try:
            yield
        except InputError as problem:
            raise keyed(problem, self) from problem.__cause__
