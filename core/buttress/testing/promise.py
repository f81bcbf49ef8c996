"""A promise of a component: its name, its text, the kinds of component that make it, and its check."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import SkipTest

from buttress.errors import ButtressError, PluginError, describe
from buttress.testing.subject import Subject

Examination = Callable[[Subject], None]
Applies = Callable[[Subject], bool]


# The promises without which a run of a component says nothing: one of each kind.
RUNS = ("trains", "attacks", "takes_records")


class BrokenPromiseError(AssertionError):
    """A plugin does not keep a promise; the message names both, and the finding."""


class Broken(Exception):  # noqa: N818  (what a check found; becomes a BrokenPromiseError with the plugin's name)
    """Raised by a check: the finding, and what to do."""


@dataclass(frozen=True)
class Rule:
    """A promise that components of some kinds make.

    Args:
        name: name of the promise.
        text: the promise in one line.
        kinds: kinds of the components that make it.
        applies: whether one of them does.
        presumes: promises without which this one cannot be asked for: where one is broken, it would be blamed twice.
        examine: raises where it is broken.
    """

    name: str
    text: str
    kinds: Collection[str]
    applies: Applies
    presumes: Collection[str]
    examine: Examination


RULES: dict[str, Rule] = {}
"""All promises by name, in the order in which they are checked."""


def rule(
    text: str,
    applies: Applies = lambda subject: True,
    *,
    kinds: Collection[str] = ("plugin",),
    presumes: Collection[str] = RUNS,
) -> Callable[[Examination], Examination]:
    """Register a check as the promise that is called like the function; what it presumes is registered before."""

    def register(examine: Examination) -> Examination:
        RULES[examine.__name__] = Rule(examine.__name__, text, kinds, applies, presumes, examine)
        return examine

    return register


def needs(*hooks: str) -> Applies:
    """For plugins that provide one of ``hooks``."""
    return lambda subject: bool(subject.provides & set(hooks))


@dataclass(frozen=True)
class Promise:
    """One promise of one component."""

    rule: Rule
    subject: Subject

    def __str__(self) -> str:
        return self.rule.name

    def check(self) -> None:
        """Examine the component.

        Raises:
            BrokenPromiseError: the promise is broken; says how.
            unittest.SkipTest: it cannot be asked for, with the reason; pytest takes it for a skip.
        """
        spoilt = [name for name in self.rule.presumes if name in self.subject.broken]
        if spoilt:
            raise SkipTest(f"asked for where {spoilt[0]!r} is kept")
        try:
            self.rule.examine(self.subject)
        except SkipTest:
            raise
        except Exception as problem:
            self.subject.broken.add(self.rule.name)
            is_worded = isinstance(problem, (Broken, ButtressError))
            finding = str(problem) if is_worded else describe(problem, self.subject.component)
            raise BrokenPromiseError(self.accusation(finding)) from (
                problem.__cause__ if isinstance(problem, Broken) else problem
            )

    def accusation(self, finding: str) -> str:
        """The text of a report about this promise where it is broken."""
        return f"{self.subject} breaks {self.rule.name!r} ({self.rule.text}):\n  {finding}"


def expect(good: bool, finding: str) -> None:
    """Raise ``finding`` unless all is ``good``."""
    if not good:
        raise Broken(finding)


@contextmanager
def refused_settings(reason: str) -> Iterator[None]:
    """Skip where the plugin refuses its place for a stated reason of its own."""
    try:
        yield
    except PluginError as refusal:
        raise SkipTest(f"{reason}: {refusal}") from None
