"""What a promise is: a name, a line that says what is promised, for which plugins, and the check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import SkipTest

from buttress.errors import ButtressError, PluginError
from buttress.testing.subject import Kind, Subject

Examination = Callable[[Subject], None]
Applies = Callable[[Subject], bool]


class BrokenPromiseError(AssertionError):
    """A plugin does not keep a promise; the message names both, and what was found."""


class Broken(Exception):  # noqa: N818  (what a check found; becomes a BrokenPromiseError with the plugin's name)
    """Raised by a check: what was found, and what to do."""


@dataclass(frozen=True)
class Rule:
    """A promise that plugins make.

    Args:
        name: of the promise.
        text: what is promised, one line.
        applies: whether a plugin makes it.
        examine: raises where it is broken.
    """

    name: str
    text: str
    applies: Applies
    examine: Examination


RULES: dict[str, Rule] = {}
"""All promises by name, in the order in which they are checked."""


def rule(
    text: str, applies: Applies = lambda subject: True, *, of: Sequence[Kind] = ("plugin",)
) -> Callable[[Examination], Examination]:
    """Register a check as the promise that is called like the function, of those kinds of components."""

    def register(examine: Examination) -> Examination:
        made = Rule(examine.__name__, text, lambda subject: subject.kind in of and applies(subject), examine)
        RULES[made.name] = made
        return examine

    return register


def needs(*hooks: str) -> Applies:
    """For plugins that provide one of ``hooks``."""
    return lambda subject: bool(subject.provides & set(hooks))


@dataclass(frozen=True)
class Promise:
    """One promise of one plugin."""

    rule: Rule
    subject: Subject

    def __str__(self) -> str:
        return self.rule.name

    def check(self) -> None:
        """Examine the plugin.

        Raises:
            BrokenPromiseError: the promise is broken; says how.
            unittest.SkipTest: the plugin cannot be asked, with the reason; pytest takes it for a skip.
        """
        try:
            self.rule.examine(self.subject)
        except SkipTest:
            raise
        except Exception as found:
            named = str(found) if isinstance(found, (Broken, ButtressError)) else f"{type(found).__name__}: {found}"
            raise BrokenPromiseError(
                f"plugin {self.subject.name!r} breaks {self.rule.name!r} ({self.rule.text}):\n  {named}"
            ) from (found.__cause__ if isinstance(found, Broken) else found)


def expect(good: bool, found: str) -> None:
    """Raise what was ``found`` unless all is ``good``."""
    if not good:
        raise Broken(found)


@contextmanager
def refused_settings(reason: str) -> Iterator[None]:
    """Skip where the plugin refuses its place for a stated reason of its own."""
    try:
        yield
    except PluginError as refusal:
        raise SkipTest(f"{reason}: {refusal}") from None
