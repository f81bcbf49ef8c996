"""``buttress plugins check`` in a process of its own, which a plugin may end. Loads no torch itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buttress.errors import InputError, PluginError
from buttress.processes import Channel, run_apart

if TYPE_CHECKING:
    from buttress.authoring.targets import Candidate

Line = dict[str, Any]

# Name of the result about importing and making a component, beside the results about its promises.
_MADE = "made"


def examine_apart(
    target: str, words: Sequence[str] = (), kind: str | None = None, only: Sequence[str] = (), *, trust: bool = False
) -> list[Line]:
    """Examine components; returns reports as ``Report.to_json`` gives them, each with its ``text``.

    Arguments are those of ``targets.candidates``. A component that could not be examined has the reason under
    ``refused``.

    Raises:
        InputError: there is nothing to examine, or its import ends the process.
    """
    known: dict[str, dict[str, Line]] = {}
    while True:
        order = {"target": target, "words": list(words), "kind": kind, "only": list(only), "trust": trust}
        outcome = run_apart(answer, [{**order, "known": known}])
        last = outcome.answers[-1] if outcome.answers else {}
        if "refused" in last:
            raise InputError(last["refused"])
        if "reports" in last:
            reports: list[Line] = last["reports"]
            return reports
        for line in outcome.answers:  # of two about one promise the later one holds
            known.setdefault(line["about"], {})[line["name"]] = line["result"]
        if "lost" not in last:
            raise PluginError(f"{target}: the process ended with {outcome.end} before anything was examined")
        result = last["result"]
        result["finding"] = result["finding"].replace("{end}", str(outcome.end))


def answer(order: Line, channel: Channel) -> None:
    """Examine what is ordered, and send an answer for every event; runs in a process that may be lost."""
    from buttress.authoring.targets import candidates
    from buttress.testing import Result, examine

    def say(**line: Any) -> None:
        channel.send(line)

    def sender(about: str, **more: Any) -> Callable[[Result], None]:
        return lambda result: say(about=about, name=result.name, result=asdict(result), **more)

    reports = []
    try:
        chosen = candidates(order["target"], order["words"], order["kind"], order["only"], trust=order["trust"])
        for candidate in chosen:
            about = str(candidate)
            before = order["known"].get(about, {})
            lost = Result(
                _MADE, "it can be made", "broken", f"{about}: the process ended with {{end}} while it was made"
            )
            try:
                if before.get(_MADE):
                    raise PluginError(before[_MADE]["finding"])
                sender(about, lost=True)(lost)
                subject = candidate.subject()
                say(about=about, name=_MADE, result=None)
            except InputError as refusal:
                if len(chosen) == 1:
                    raise
                reports.append(_refused(candidate, str(refusal)))
                continue
            known = {name: Result(**result) for name, result in before.items() if name != _MADE}
            report = examine(
                subject,
                known,
                begin=sender(about, lost=True),
                end=sender(about),
            )
            reports.append({**report.to_json(), "text": str(report)})
    except InputError as refusal:
        say(refused=str(refusal))
    else:
        say(reports=reports)


def _refused(candidate: Candidate, message: str) -> Line:
    """The report of a component that could not be made."""
    return {
        "kind": candidate.kind,
        "plugin": candidate.source.name,
        "source": str(candidate.source),
        "results": [],
        "cost": None,
        "broken": [],
        "refused": message,
        "text": f"{candidate} ({candidate.source}): not examined\n  {message}",
    }
