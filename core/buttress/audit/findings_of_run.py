"""The findings of ``buttress audit`` about the weights of a run, kept in the run's ``audit.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttress.audit.audit_file import read_audit, write_audit
from buttress.errors import CheckpointError, extended
from buttress.evaluation.saved_run import SavedRun


def read_findings(run: SavedRun) -> list[dict[str, Any]]:
    """Findings about exactly these weights, each with its ``mark``; empty without an audit.

    Raises:
        CheckpointError: the file of the findings is damaged, so that one might be missing.
    """
    if not run.folder.audit.exists():
        return []
    try:
        rows = read_audit(run.folder.audit)
    except CheckpointError as problem:
        again = f"buttress audit {run.home} --track {run.track} --checkpoint {run.checkpoint}"
        raise extended(problem, f"; it is written anew by: {again}") from None
    return [row for row in rows if _weights(run).items() <= row.items()]


def write_findings(run: SavedRun, findings: Sequence[Mapping[str, str]]) -> None:
    """Write an audit of these weights, beside those of other tracks and checkpoints."""
    which = run.track, run.checkpoint
    try:
        before = read_audit(run.folder.audit)
    except CheckpointError:  # missing or damaged: this audit begins the file anew
        before = []
    others = [row for row in before if (row["track"], row["checkpoint"]) != which]
    about = {**_weights(run), "precision": run.at_work.precision.score}
    write_audit(run.folder.audit, [*others, *({**row, **about} for row in findings)])


def _weights(run: SavedRun) -> dict[str, Any]:
    """The facts by which a finding names the weights that it is about."""
    return {key: run.facts[key] for key in ("track", "checkpoint", "epoch", "weights_sha256")}
