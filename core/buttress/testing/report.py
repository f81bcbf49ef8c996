"""All promises of a plugin, an attack or a logger in one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any, Literal
from unittest import SkipTest

from buttress.testing import rules
from buttress.testing.cost import Cost, cost_of
from buttress.testing.promise import RULES, RUNS, BrokenPromiseError, Promise
from buttress.testing.subject import Subject

assert rules  # imported for the promises that it registers

Status = Literal["kept", "broken", "not asked"]

# The finding where the process ends; {end} says how.
ENDED = "the process ended with {end} while this was examined; raise an exception instead"
_NOT_ITS_OWN = "it has no such hook, state, setting or method"
_COST, _TIMED = "cost", "its steps can be timed"


@dataclass(frozen=True)
class Result:
    """The outcome of the check of one promise.

    Args:
        name: name of the promise.
        text: the promise in one line.
        status: ``kept``, ``broken``, or ``not asked``.
        finding: the fault, or the reason why the promise was not checked.
    """

    name: str
    text: str
    status: Status
    finding: str = ""


@dataclass(frozen=True)
class Report:
    """The outcome of the examination of one plugin, attack or logger.

    Args:
        kind: ``plugin``, ``attack`` or ``logger``.
        plugin: its name.
        source: its distribution and version, or its class.
        results: every promise of its kind, in order.
        cost: cost on the bench; None for a component that takes no part in one, and where no step can be taken.
    """

    kind: str
    plugin: str
    source: str
    results: Sequence[Result]
    cost: Cost | None

    @property
    def broken(self) -> list[Result]:
        return [result for result in self.results if result.status == "broken"]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "broken": [result.name for result in self.broken]}

    def __str__(self) -> str:
        kept = [result.name for result in self.results if result.status == "kept"]
        lines = [f"{self.kind} {self.plugin!r} ({self.source}): {len(kept)} promises kept, {len(self.broken)} broken"]
        width = max(len(result.name) for result in self.results)
        for result in self.results:
            lines.append(f"  {result.status:9}  {result.name:{width}}  {result.text}")
            if result.status == "broken" or (result.status == "not asked" and result.finding != _NOT_ITS_OWN):
                lines.append(indent(result.finding, "    "))
        if self.kind == "plugin":
            lines.append("  cost" if self.cost else "  cost: not known: no step can be taken")
            lines += [indent(str(self.cost), "    ")] if self.cost else []
        return "\n".join(lines)


def promises(
    component: Any, settings: Mapping[str, Any] | None = None, *, name: str | None = None, kind: str = "plugin"
) -> list[Promise]:
    """The promises that a plugin makes, for ``pytest.mark.parametrize``.

    Args:
        component: the plugin's class.
        settings: to examine it with, as in a config; those that it requires, at least.
        name: its name in a config.
        kind: ``plugin``; ``attack`` of evaluations; or ``logger``.

    Raises:
        PluginError, ConfigError: the class is none of that kind, or the settings are wrong.
    """
    subject = Subject(component, settings, name, kind=kind)
    return [Promise(rule, subject) for rule in RULES.values() if subject.kind in rule.kinds and rule.applies(subject)]


def examine(
    subject: Subject,
    known: Mapping[str, Result] | None = None,
    begin: Callable[[Result], None] = lambda result: None,
    end: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Check every promise and measure the cost.

    Args:
        subject: the plugin, attack or logger.
        known: results of an examination that ended before its time, by name; they are not asked for again.
        begin: called before each promise, and before the cost is measured, with the result if the process ends now.
        end: called with each result.
    """
    results, known = [], known or {}
    subject.broken |= {name for name, result in known.items() if result.status == "broken"}
    for rule in RULES.values():
        if subject.kind not in rule.kinds:
            continue
        promise = Promise(rule, subject)
        if rule.name not in known:
            begin(Result(rule.name, rule.text, "broken", promise.accusation(ENDED)))
        results.append(known.get(rule.name) or _result(promise))
        end(results[-1])
    cost = None
    if _COST in known:
        results.append(known[_COST])
    elif subject.kind == "plugin":
        begin(Result(_COST, _TIMED, "broken", f"{subject} breaks {_COST!r} ({_TIMED}):\n  {ENDED}"))
        cost = _cost(subject)
    source = str(subject.source or f"{subject.component.__module__}.{subject.component.__qualname__}")
    return Report(subject.kind, subject.name, source, results, cost)


def check_plugin(
    component: Any, settings: Mapping[str, Any] | None = None, *, name: str | None = None, kind: str = "plugin"
) -> Report:
    """Check every promise of a plugin; arguments as in ``promises``.

    Raises:
        BrokenPromiseError: names every promise that is broken, and what was found.
    """
    report = examine(Subject(component, settings, name, kind=kind))
    if report.broken:
        raise BrokenPromiseError("\n".join(result.finding for result in report.broken))
    return report


def _result(promise: Promise) -> Result:
    rule = promise.rule
    if not rule.applies(promise.subject):
        return Result(rule.name, rule.text, "not asked", _NOT_ITS_OWN)
    try:
        promise.check()
    except SkipTest as reason:
        return Result(rule.name, rule.text, "not asked", str(reason))
    except BrokenPromiseError as broken:
        return Result(rule.name, rule.text, "broken", str(broken))
    return Result(rule.name, rule.text, "kept")


def _cost(subject: Subject) -> Cost | None:
    if subject.broken & set(RUNS):
        return None
    try:
        return cost_of(subject)
    except Exception:  # what is wrong stands among the promises
        return None
