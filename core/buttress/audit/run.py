"""``buttress audit RUN``: check the weights of a run on its test split, and its records."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from buttress.audit import audit
from buttress.audit.finding import Finding
from buttress.audit.findings_of_run import write_findings
from buttress.audit.precision import scores_are_precise
from buttress.audit.records import autoattack_is_strongest, selection_is_honest, spsa_is_weaker
from buttress.evaluation.saved_run import SavedRun, load_run
from buttress.nn.modes import Modes
from buttress.scoring.attacks import name_of_entry


def audit_run(
    path: Path,
    track: str = "live",
    checkpoint: str = "best",
    *,
    examples: int = 200,
    doing: Callable[[str], None] = lambda name: None,
    trust: bool = False,
) -> tuple[SavedRun, list[Finding]]:
    """Audit the weights of a run; the findings are also kept in ``audit.json``.

    Args:
        path: run folder.
        track: ``live`` or an ensemble's name.
        checkpoint: ``best`` or ``last``.
        examples: number of examples of the test split to look at.
        doing: function that receives the name of each check before it begins.
        trust: whether to execute the code that came with the run, and remember it as trusted.

    Raises:
        RunFolderError, CheckpointError: there is no such run, track or checkpoint.
    """
    run = load_run(path, track, checkpoint, trust=trust)
    evaluation, precision = run.file.config.evaluation, run.at_work.precision
    with Modes(run.model).evaluating():
        findings = audit(
            run.model,
            run.data.test,
            run.threat,
            examples=examples,
            seed=evaluation.seed,
            precision=precision,
            doing=doing,
        )
    evaluations = run.evaluations()
    evaluate = shlex.join(["buttress", "evaluate", str(path), "--track", track, "--checkpoint", checkpoint])
    findings += [
        scores_are_precise(_reported(run, evaluations), evaluate),
        spsa_is_weaker(evaluations, evaluate),
        autoattack_is_strongest(evaluations, evaluate),
        selection_is_honest(evaluation.best_by, checkpoint),
    ]
    write_findings(run, [finding.to_json() for finding in findings])
    return run, findings


def _reported(run: SavedRun, evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Attack, number of examples and precision of every number that is known of the weights."""
    own = name_of_entry(run.file.config.evaluation.attack)  # of the evaluation that chose the weights
    yield {"attack": own, "n": len(run.data.test), "precision": run.at_work.precision.score}
    for result in evaluations:
        yield from ({**row, "precision": result["precision"]} for row in result["attacks"])
