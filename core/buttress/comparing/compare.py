"""``buttress compare``: methods x settings x seeds; one table, one picture, JSON.

A run that fails is a row and not the end. The same command again goes on where the last one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from buttress.build import check_config
from buttress.comparing.comparison import Comparison, Row, draw_comparison
from buttress.comparing.jobs import Job, Pool, alone
from buttress.comparing.same_examples import expect_same_data_as_started, other_examples
from buttress.comparing.sweep import Variant, baselines
from buttress.config import dump_config
from buttress.errors import ConfigError
from buttress.evaluation import attack_entry, attack_name, load_attack
from buttress.storage.files import write_json, write_text
from buttress.storage.run_folder import hardware
from buttress.storage.seals import read_sealed


def compare(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    runs: Path,
    name: str,
    *,
    attacks: Sequence[str] = (),
    jobs: int = 1,
    baseline: str | None = None,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Train all variants at all seeds and compare them.

    Args:
        variants: see ``sweep.plan``.
        seeds: each variant is trained at each.
        runs: folder of all runs; the comparison lives in ``runs/name/``.
        name: of the comparison.
        attacks: as in ``buttress evaluate --attack``: run on best and last weights of every track, in addition.
        jobs: processes at once; each gets its share of the processors as threads.
        baseline: a method or the label of a variant, see ``sweep.baselines``.
        say: where progress goes.

    Raises:
        InputError: wrong input; nothing has been written.
        InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves, and the same command
            goes on.
    """
    paired = baselines(variants, baseline)
    for text in attacks:
        load_attack(attack_entry(text))
    resolved: dict[str, dict[str, Any]] = {}
    texts: dict[str, str | None] = {}
    for variant in variants:
        assembly = check_config(variant.file(name, seeds[0]))
        resolved[variant.label] = assembly.resolved
        texts[variant.label] = assembly.file.plugins_file.text if assembly.file.plugins_file else None
    own, best_by = attack_name(assembly.evaluator.attack), _scoring(resolved)
    columns = _columns(own, attacks)
    folder = runs / name
    planned = [
        Job(
            label=variant.label,
            seed=seed,
            path=str(folder / variant.run(seed)),
            config=dump_config({**resolved[variant.label], "seed": seed}),
            attacks=tuple(attacks),
            plugins_text=texts[variant.label],
        )
        for variant in variants
        for seed in seeds
    ]
    for job in planned:
        job.check()
    expect_same_data_as_started(planned)
    with alone(folder) as lock:
        failed = Pool(planned, jobs, lock, say).run()
        finished = [job for job in planned if (job.label, job.seed) not in failed]
        found = Comparison(
            [own, *columns.values()], _rows(finished, own, columns), failed, paired, best_by, other_examples(finished)
        )
        _write(found, folder, seeds, say)
    return found


def _scoring(resolved: Mapping[str, dict[str, Any]]) -> str:
    """The split that chooses the best epoch; all variants have one, and one attack.

    Raises:
        ConfigError: two variants differ in them, so that their numbers cannot stand in one column.
    """
    (first, reference), *others = ((label, config["evaluation"]) for label, config in resolved.items())
    for label, evaluation in others:
        for key in ("attack", "best_by", "seed"):
            if evaluation[key] != reference[key]:
                raise ConfigError(
                    f"evaluation.{key} is {reference[key]} in {first!r} and {evaluation[key]} in {label!r}; their "
                    f"numbers cannot stand in one column; give it once for all: evaluation.{key}=..."
                )
    return str(reference["best_by"])


def _columns(own: str, attacks: Sequence[str]) -> dict[str, str]:
    """The table's name of each extra attack: its short name, or all of its text where the short name is taken.

    Raises:
        ConfigError: the text is taken too.
    """
    columns: dict[str, str] = {}
    for text in attacks:
        taken = {"clean", own, *columns.values()}
        short = attack_name(load_attack(attack_entry(text)))
        columns[text] = text if short in taken else short
        if columns[text] in taken:
            raise ConfigError(
                f"--attack {text!r}: the table has a column {text!r}; leave the attack out, or write out the settings "
                "that make it another one: 'pgd: {steps: 20, step_size: 1/80}'"
            )
    return columns


def _rows(finished: Sequence[Job], own: str, columns: Mapping[str, str]) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    for job in finished:
        scores = job.scores()
        for track in read_sealed(job.folder.summary)["tracks"]:
            row = rows.setdefault((job.label, track["track"]), Row(job.label, track["track"], track["n"]))
            values = {
                f"{column} {measure}": track[f"{key}_{measure}"]
                for column, key in (("clean", "clean"), (own, "robust"))
                for measure in ("best", "last", "diff")
            }
            for text, column in columns.items():
                best, last = (scores[text][row.track][which] for which in ("best", "last"))
                values |= {f"{column} best": best, f"{column} last": last, f"{column} diff": best - last}
            row.values[job.seed] = values
            row.best_epochs[job.seed] = track["best_epoch"]
            row.metrics.append(job.folder.metrics)
    return list(rows.values())


def _write(found: Comparison, folder: Path, seeds: Sequence[int], say: Callable[[str], None]) -> None:
    result = {"command": sys.argv, "seeds": list(seeds), **hardware(), **found.to_json()}
    text, markdown, picture = (folder / f"comparison.{suffix}" for suffix in ("json", "md", "png"))
    write_json(text, result)
    write_text(markdown, f"{found.table(markdown=True)}\n\n{found.notes()}\n")
    say(f"\n{found.table()}\n\n{found.notes()}")
    if found.rows:
        draw_comparison(picture, found)
        say(f"Learning curves: {picture}")
    say(f"Table and numbers: {markdown}, {text}")
