"""All promises of a plugin in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any, Literal
from unittest import SkipTest

from buttress.testing import rules
from buttress.testing.cost import Cost, cost_of
from buttress.testing.promise import RULES, BrokenPromiseError, Promise
from buttress.testing.subject import Kind, Subject

assert rules  # imported for the promises that it registers

Status = Literal["kept", "broken", "not asked"]


@dataclass(frozen=True)
class Result:
    """What became of one promise.

    Args:
        name: of the promise.
        text: what is promised.
        status: ``kept``, ``broken``, or ``not asked`` of such a plugin.
        found: what was found, or why it was not asked.
    """

    name: str
    text: str
    status: Status
    found: str = ""


@dataclass(frozen=True)
class Report:
    """Of one plugin.

    Args:
        plugin: its name.
        kind: whether it is a plugin or a logger.
        source: its distribution and version, or its class.
        results: every promise, in order.
        cost: of a step; None where no step can be taken, and of a logger.
    """

    plugin: str
    kind: Kind
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
            if result.status == "broken":
                lines.append(indent(result.found, "    "))
        none = "none: a logger takes no part in a step" if self.kind == "logger" else "not known: no step can be taken"
        return "\n".join([*lines, f"  cost: {self.cost or none}"])


def promises(component: Any, settings: Mapping[str, Any] | None = None, *, name: str | None = None) -> list[Promise]:
    """The promises that a plugin makes, for ``pytest.mark.parametrize``.

    Args:
        component: the plugin's class.
        settings: to examine it with, as in a config; those that it requires, at least.
        name: what a config calls it.

    Raises:
        PluginError, ConfigError: the class is no plugin, or the settings are wrong.
    """
    subject = Subject(component, settings, name)
    return [Promise(rule, subject) for rule in RULES.values() if rule.applies(subject)]


def examine(subject: Subject) -> Report:
    """Check every promise and measure the cost."""
    results = [_result(subject, name) for name in RULES]
    source = str(subject.source or f"{subject.component.__module__}.{subject.component.__qualname__}")
    try:
        cost = cost_of(subject) if subject.kind == "plugin" else None
    except Exception:  # what is wrong stands among the promises
        cost = None
    return Report(subject.name, subject.kind, source, results, cost)


def check_plugin(component: Any, settings: Mapping[str, Any] | None = None, *, name: str | None = None) -> Report:
    """Check every promise of a plugin; arguments as in ``promises``.

    Raises:
        BrokenPromiseError: names every promise that is broken, and what was found.
    """
    report = examine(Subject(component, settings, name))
    if report.broken:
        raise BrokenPromiseError("\n".join(result.found for result in report.broken))
    return report


def _result(subject: Subject, name: str) -> Result:
    rule = RULES[name]
    if not rule.applies(subject):
        return Result(name, rule.text, "not asked", "it has no such hook, state or setting")
    try:
        Promise(rule, subject).check()
    except SkipTest as reason:
        return Result(name, rule.text, "not asked", str(reason))
    except BrokenPromiseError as broken:
        return Result(name, rule.text, "broken", str(broken))
    return Result(name, rule.text, "kept")
