"""Check that nothing reported was attacked in less than float32: an attack that rounds may stall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from buttress.audit.finding import Finding
from buttress.audit.probe import Probe
from buttress.audit.records import EVALUATE
from buttress.precision import is_low

_CURE = "'precision={score: float32}'"
_ROUNDED = "of lower precision than float32, in which an attack may stall and a model look robust"
# Number of attacks that a reason names.
_NAMED = 3


def audit_is_precise(probe: Probe) -> Finding:
    """The attacks of the audit itself are not in less than float32."""
    name, word = "audit is precise", probe.at_work.precision.score
    if not is_low(word):
        return Finding(name, "PASS", f"the checks above attacked in {word}")
    return Finding(name, "WARN", f"the checks above attacked in {word}, {_ROUNDED}", f"believe {EVALUATE} {_CURE}")


def scores_are_precise(rows: Iterable[Mapping[str, Any]], evaluate: str = EVALUATE) -> Finding:
    """Every reported number has an attack in float32 or float64 behind it.

    Args:
        rows: rows of attacks, with ``attack``, ``n`` and ``precision``: the run's own evaluation, and all later ones.
        evaluate: the command that evaluates the weights, for the cure.
    """
    name, words = "scores are precise", dict[tuple[str, int], list[str]]()
    for row in rows:
        words.setdefault((row["attack"], row["n"]), []).append(row["precision"])
    low = {attack: own[0] for (attack, _), own in words.items() if all(map(is_low, own))}
    if not low:
        return Finding(name, "PASS", f"{len(words)} numbers, each of an attack in float32 or float64")
    listed = ", ".join(f"{attack} in {word}" for attack, word in list(low.items())[:_NAMED])
    listed += " ..." if len(low) > _NAMED else ""
    cure = f"{evaluate} {_CURE}, with --attack for each that is not the run's own"
    return Finding(name, "WARN", f"{listed}: {_ROUNDED}", cure)
