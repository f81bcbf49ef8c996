"""Verbs that inspect finished runs: ``audit``, ``analyze``, ``report``."""

from __future__ import annotations

from pathlib import Path

import click

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import (
    FILE,
    FOLDER,
    NUMBER,
    checkpoint_option,
    json_option,
    run_argument,
    track_option,
    trust_option,
)
from buttress.cli.verb import option, verb
from buttress.console.output import say


@verb(imports_torch=True)
@run_argument
@track_option
@checkpoint_option("best")
@option(
    "--examples",
    type=NUMBER,
    metavar="N",
    default=200,
    help="number of test examples to use, the same ones as in evaluate",
)
@trust_option()
@json_option
def audit(run: Path, track: str, checkpoint: str, examples: int, trust: bool, as_json: bool) -> str:
    """Search for flaws that make a run's robustness numbers meaningless."""
    from buttress.audit.finding import findings_text
    from buttress.audit.run import audit_run
    from buttress.errors import ConfigError, WorkError

    if examples < 1:
        raise ConfigError("expected a number >= 1", key=f"--examples {examples}")
    with reporter_aside("loading data and weights") as reporter:
        audited, findings = audit_run(run, track, checkpoint, examples=examples, doing=reporter.doing, trust=trust)
    if as_json:
        say(json_answer([finding.to_json() for finding in findings]))
    else:
        about = f"{audited}, {audited.threat}, {audited.at_work.precision.score}"
        say(f"{about}\n\n{findings_text(findings)}\n\nwritten to {audited.folder.audit}")
    failed = [finding.check for finding in findings if finding.status == "FAIL"]
    if failed:
        raise WorkError(f"{run} fails: {', '.join(failed)}")
    return ""


@verb(imports_torch=True)
@click.argument("runs", type=FOLDER, nargs=-1, required=True, metavar="RUN...", help="run folders")
@option(
    "--part",
    "parts",
    multiple=True,
    metavar="PART",
    show_default="all",
    help="gap, landscape, surface, histogram, loss_groups, label_noise, distance, classes or images; may be repeated",
)
@option(
    "--track",
    "tracks",
    multiple=True,
    metavar="TRACK",
    show_default="every track",
    help="track to draw landscapes for: live, or the name of an ensemble; may be repeated",
)
@checkpoint_option("last")
@option(
    "--examples",
    type=NUMBER,
    metavar="N",
    default=500,
    help="largest number of training examples to attack, drawn by the run's seed",
)
@option("--points", type=NUMBER, metavar="N", default=21, help="points per landscape direction, an odd number")
@option("--seed", type=NUMBER, metavar="N", default=0, help="seed of the directions, one for all runs compared")
@option("--recompute", is_flag=True, help="attack anew at every point of a 1-D landscape, as AWP's authors do")
@trust_option()
def analyze(
    runs: tuple[Path, ...],
    parts: tuple[str, ...],
    tracks: tuple[str, ...],
    checkpoint: str,
    examples: int,
    points: int,
    seed: int,
    recompute: bool,
    trust: bool,
) -> str:
    """Analyze runs: robustness gap, landscapes, weights, losses, label noise."""
    from buttress.analysis.part import Options
    from buttress.analysis.run import analyze as analyze_run

    chosen = Options(tracks, points, seed, recompute)
    for run in runs:
        with reporter_aside(f"{run}: loading data and weights") as reporter:
            analyze_run(
                run,
                parts,
                chosen,
                checkpoint=checkpoint,
                examples=examples,
                say=say,
                doing=reporter.doing,
                trust=trust,
            )
    return ""


@verb(imports_torch=True)
@click.argument(
    "runs",
    type=FOLDER,
    nargs=-1,
    required=True,
    metavar="RUN...",
    help="run folders; runs that differ in their seed alone are shown as one",
)
@option(
    "--output",
    type=FILE,
    metavar="FILE.html",
    show_default="RUN/report.html; for several runs, report.html",
    help="file to write",
)
def report(runs: tuple[Path, ...], output: Path | None) -> str:
    """Write one HTML page about one or several runs, which needs no network."""
    from buttress.report.run import write_report

    return f"report: {write_report(runs, output, say)}"
