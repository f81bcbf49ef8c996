"""Findings: the outcome of a check, and the text of several."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["PASS", "SKIP", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        check: name of the check.
        status: ``PASS``; ``SKIP``, it could not be made; ``WARN``, a number may mislead; ``FAIL``, a number would mean
            nothing.
        reason: observation, with numbers.
        cure: advice; empty where nothing is to be done.
    """

    check: str
    status: Status
    reason: str
    cure: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def graded(check: str, amount: float, warn: float, fail: float, reason: str, cure: str) -> Finding:
    """``PASS`` up to the amount ``warn``, ``WARN`` up to ``fail``, ``FAIL`` above; NaN fails."""
    if amount <= warn:
        return Finding(check, "PASS", reason)
    return Finding(check, "WARN" if amount <= fail else "FAIL", reason, cure)


def findings_text(findings: Sequence[Finding]) -> str:
    """One line for each finding, with the cure below it where there is one."""
    widest = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status}  {finding.check.ljust(widest)}  {finding.reason}")
        if finding.cure:
            lines.append(f"{' ' * (widest + 8)}cure: {finding.cure}")
    return "\n".join(lines)
