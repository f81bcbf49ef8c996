"""The conclusion of a run: ``summary.json``, learning curves, and a table for the user."""

from __future__ import annotations

from collections.abc import Sequence

from buttress.console.reporter import Reporter
from buttress.console.tables import fitted, percent
from buttress.scoring.attacks import attack_name
from buttress.storage.run_folder import RunFolder
from buttress.training.assembly import Assembly
from buttress.training.collapse import majority_share
from buttress.training.curves import draw_curves
from buttress.training.notes import never_above_chance
from buttress.training.resumable_state import ResumableState
from buttress.training.selection import TrackSummary, summarize
from buttress.training.summary_file import write_summary

# Letters of an attack's name in a column's head, at most, so that a table of a run fits.
_LONGEST_ATTACK = 8


def conclude(assembly: Assembly, folder: RunFolder, state: ResumableState, reporter: Reporter) -> list[TrackSummary]:
    """Write best, last and diff of every track into the run folder, and show them.

    Raises:
        StorageError: the disk is full or refuses.
    """
    config, attack, guard = assembly.file.config, attack_name(assembly.evaluator.attack), assembly.engine.bad_steps
    by, seed, precision = config.evaluation.best_by, config.seed, assembly.engine.at_work.precision
    rows = summarize(state.records, by)
    summary = {
        "best_by": by,
        "attack": assembly.resolved["evaluation"]["attack"],
        "seed": seed,
        "precision": precision.words,
        "data": assembly.data.fingerprint,
        "rollbacks": state.rollbacks,
        "metrics_bytes": state.metrics.size,
        "metrics_sha256": state.metrics.sha256,
        **({"skipped_steps": guard.skipped} if guard else {}),
        "tracks": [row.to_json() for row in rows],
    }
    write_summary(folder.summary, summary)
    drops = assembly.schedule.drops(assembly.length.time)
    draw_curves(folder.curves, state.records, rows, drops, f"{config.name}, seed {seed}", attack, by)
    reporter.say(
        f"\n{summary_table(rows, attack)}\n\nTest accuracies in %, n = {rows[0].n}, {precision.score}, seed {seed}, "
        f"one run; best epoch chosen on {by}.\nLearning curves: {folder.curves}\nRun folder: {folder.path}"
    )
    chance = majority_share(assembly.data.splits()[by], config.evaluation.batch_size)
    note = never_above_chance(state.records, by, chance)
    if note:
        reporter.say(f"note: {note}")
    return rows


def summary_table(rows: Sequence[TrackSummary], attack: str) -> str:
    """Best, last and diff of every track, in percent; where an attack's name makes it too wide, a line names it."""
    short = attack if len(attack) <= _LONGEST_ATTACK else "robust"
    header = ["track", "best epoch", "clean best", "last", "diff", f"{short} best", "last", "diff", "n"]
    lines = [
        [
            row.track,
            row.best_epoch,
            *map(percent, (row.clean_best, row.clean_last, row.clean_diff)),
            *map(percent, (row.robust_best, row.robust_last, row.robust_diff)),
            row.n,
        ]
        for row in rows
    ]
    return fitted(header, lines, names=1) + ("" if short == attack else f"\nrobust: under {attack}")
