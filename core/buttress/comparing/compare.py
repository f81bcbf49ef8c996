"""``buttress compare``: train methods x settings x seeds; make one table, two pictures, and JSON.

A run that fails is a row and not the end. The same command again goes on where the last one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buttress.comparing.comparison import VALIDATION, ComparedTrack, Comparison
from buttress.comparing.differences import differences_of, draw_differences
from buttress.comparing.groups import groups_of
from buttress.comparing.jobs import Job
from buttress.comparing.partners import Partners, console_of
from buttress.comparing.picture import draw_comparison
from buttress.comparing.plan_file import (
    Member,
    Plan,
    expect_different,
    kept_jobs,
    read_plan,
    variant_digest,
    write_plan,
)
from buttress.comparing.pool import Pool
from buttress.comparing.same_examples import expect_same_data_as_started, other_examples
from buttress.comparing.sweep import Variant, baselines
from buttress.config.file import dump_config
from buttress.config.yaml_source import parse_yaml
from buttress.console.tables import WIDTH, wrapped
from buttress.engine.joining import Launch
from buttress.errors import CheckpointError, ConfigError
from buttress.launching.chosen import load_launcher
from buttress.launching.launcher import Launcher
from buttress.scoring.attacks import attack_entry, attack_name, load_attack
from buttress.storage.files import write_json, write_text
from buttress.storage.leases import leased
from buttress.training.assembly import check_config
from buttress.training.manifest import hardware
from buttress.training.records import read_metrics
from buttress.training.selection import Record, best_epoch, fully_scored
from buttress.training.summary_file import read_summary

DIFFERENCES = "differences.png"
"""Name of the second picture in the folder of a comparison."""


def compare(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    runs: Path,
    name: str,
    *,
    attacks: Sequence[str] = (),
    jobs: int | None = None,
    launcher: Launcher | None = None,
    only: tuple[int, int] = (1, 1),
    launch: Launch | None = None,
    baseline: str | None = None,
    say: Callable[[str], None] = print,
    trust: bool = False,
) -> Comparison:
    """Train all variants at all seeds and compare them, beside what earlier commands have put into the comparison.

    Args:
        variants: variants, see ``sweep.plan``.
        seeds: seeds at each of which each variant is trained.
        runs: folder of all runs; the comparison lives in ``runs/name/``.
        name: name of the comparison.
        attacks: further attacks on best and last weights of every track, as in ``buttress evaluate --attack``.
        jobs: largest number of runs at once; None for the launcher's own.
        launcher: launcher of the runs; by default ``local``.
        only: part and number of parts: of all runs, in their order, every so-manieth is trained here, from that one on.
        launch: place of this process among those that share the runs; None for one that shares them with nobody, or
            by ``only``. Rank 0 waits for the others and makes the table; their own result has their own runs alone.
        baseline: a method or the label of a variant, see ``sweep.baselines``.
        say: function that receives lines of progress.
        trust: whether to execute the code of a config that came with a run, and remember it as trusted.

    Raises:
        TrustError: a config came with a run, and has code that the user has not trusted.
        InputError: wrong input; nothing has been written.
        RanksError: rank 0 does not come.
        InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves, and the same command
            goes on.
    """
    launcher = launcher or load_launcher("local")
    folder, checked = runs / name, [_check(variant, name, seeds, trust) for variant in variants]
    members, own = [each.member for each in checked], checked[0].attack
    expect_different(members)
    _columns(own, attacks)
    before = read_plan(folder)
    before = before.without([each for one in checked for each in _replaced(before, one, folder)])
    plan = before.joined(Plan(tuple(members), tuple(attacks), baseline))
    _expect_one_scoring(plan)
    _columns(own, plan.attacks)
    baselines([member.variant for member in plan.members], plan.baseline)
    own_attacks = tuple(plan.attack_like(text) for text in attacks)
    planned = [each.job(plan.member_like(each.member), seed, folder, own_attacks) for each in checked for seed in seeds]
    for job in planned:
        job.check()
    expect_same_data_as_started(planned)
    lease = folder / "logs" / "plan.lease"  # of the plan and the table; each run has one of its own
    with leased(lease, wait=True):
        write_plan(folder, plan)
    launcher.open(folder / "logs", jobs)
    launch = launch or Launch()
    part, parts = (launch.rank + 1, launch.size) if launch.size > 1 else only
    jobs_here, partners = planned[part - 1 :: parts], Partners(launch, folder)
    with partners.met(say):
        failed = Pool(jobs_here, launcher, say, console_of(launch)).run()
        if launch.rank == 0:
            failed |= partners.failures_of_others(planned, say)
            with leased(lease, wait=True):
                plan = read_plan(folder).joined(plan)  # another command may have joined meanwhile
                write_plan(folder, plan)
                every = [*planned, *kept_jobs(folder, plan, planned, say)]
                comparison = _comparison(every, failed, plan, own)
                _write(comparison, {job.label: parse_yaml(job.config, "config").value for job in every}, folder, say)
            return comparison
    if failed:
        partners.wait_for_first()
    return _comparison(jobs_here, failed, plan, own)


@dataclass(frozen=True)
class _Checked:
    """A variant, its config with every default filled in, its file of plugins, and its own attack's name."""

    member: Member
    resolved: dict[str, Any]
    plugins_text: str | None
    attack: str
    code: tuple[str, ...]

    def job(self, member: Member, seed: int, folder: Path, attacks: tuple[str, ...] = ()) -> Job:
        """The run of this config that has the name of ``member``, at a seed."""
        config = dump_config({**self.resolved, "seed": seed})
        return Job(
            member.label, seed, str(folder / member.variant.run(seed)), config, attacks, self.plugins_text, self.code
        )


def _check(variant: Variant, name: str, seeds: Sequence[int], trust: bool) -> _Checked:
    assembly = check_config(variant.file(name, seeds[0], trust=trust))
    text = assembly.file.plugins_file.text if assembly.file.plugins_file else None
    member = Member(variant, variant_digest(assembly.resolved, text), assembly.resolved["evaluation"], tuple(seeds))
    code = tuple(each.sha256 for each in assembly.file.own.files)
    return _Checked(member, assembly.resolved, text, attack_name(assembly.evaluator.attack), code)


def _replaced(before: Plan, checked: _Checked, folder: Path) -> list[Member]:
    """Members whose run folders would have the names of the requested ones, and which are gone.

    Raises:
        RunFolderError: one of the folders is there; says in what the configs differ.
    """
    member = checked.member
    replaced = [
        known for known in before.members if known.key != member.key and known.variant.run(0) == member.variant.run(0)
    ]
    for known in replaced:
        for seed in known.seeds:
            checked.job(known, seed, folder).check()
    return replaced


def _comparison(jobs: Sequence[Job], failed: Mapping[tuple[str, int], str], plan: Plan, own: str) -> Comparison:
    """The comparison of all runs, in the order of the plan."""
    order = {member.label: place for place, member in enumerate(plan.members)}
    every = sorted(jobs, key=lambda job: (order[job.label], job.seed))
    here = [job for job in every if (job.label, job.seed) not in failed]
    finished = [job for job in here if job.folder.summary.exists()]
    by, columns = str(plan.members[0].evaluation["best_by"]), _columns(own, plan.attacks)
    methods = {member.label: member.variant.method for member in plan.members}
    return Comparison(
        [own, *columns.values()],
        _rows(finished, own, columns, methods, by),
        dict(failed),
        baselines([member.variant for member in plan.members], plan.baseline),
        by,
        other_examples(finished),
        [(job.label, job.seed) for job in here if job not in finished],
    )


def _expect_one_scoring(plan: Plan) -> None:
    """Check that all members have one attack, one seed of it, and one split that chooses the best epoch.

    Raises:
        ConfigError: two differ in them, so that their numbers cannot stand in one column.
    """
    first, *others = plan.members
    for member in others:
        for key in ("attack", "best_by", "seed"):
            if member.evaluation[key] != first.evaluation[key]:
                raise ConfigError(
                    f"evaluation.{key} is {first.evaluation[key]} in {first.label!r} and {member.evaluation[key]} in "
                    f"{member.label!r}; their numbers cannot stand in one column; give it once for all "
                    f"(evaluation.{key}=...), or choose another --name where one of them is there from before"
                )


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
                f"the table has a column {text!r}; leave the attack out, or write out the settings "
                "that make it another one: 'pgd: {steps: 20, step_size: 1/80}'",
                key=f"--attack {text!r}",
            )
    return columns


def _rows(
    finished: Sequence[Job], own: str, columns: Mapping[str, str], methods: Mapping[str, str], by: str
) -> list[ComparedTrack]:
    rows: dict[tuple[str, str], ComparedTrack] = {}
    for job in finished:
        scores, records = job.scores(), fully_scored(read_metrics(job.folder).evaluations, by)
        for track in read_summary(job.folder.summary).body["tracks"]:
            name = track["track"]
            _expect_scored(job, name, records, scores, columns)
            new = ComparedTrack(job.label, name, track["n"], method=methods[job.label], precision=job.precision)
            row = rows.setdefault((job.label, name), new)
            values = {
                f"{column} {measure}": track[f"{key}_{measure}"]
                for column, key in (("clean", "clean"), (own, "robust"))
                for measure in ("best", "last", "diff")
            }
            for text, column in columns.items():
                if text in scores:  # it may be missing from a run of an earlier command
                    best, last = (scores[text][name][which] for which in ("best", "last"))
                    values |= {f"{column} best": best, f"{column} last": last, f"{column} diff": best - last}
            chosen = row.best_epochs[job.seed] = best_epoch(records, name, by)
            for each in records:
                if (each.track, each.split, each.epoch) == (name, "validation", chosen):
                    values[VALIDATION] = each.robust
            row.values[job.seed] = values
            row.records.extend(records)
    return list(rows.values())


def _expect_scored(
    job: Job, track: str, records: Sequence[Record], scores: Mapping[str, Any], columns: Mapping[str, str]
) -> None:
    """Refuse a run whose files do not go together.

    Raises:
        CheckpointError: metrics or scores without a track that the summary has.
    """
    folder, cure = job.folder, f"delete {job.folder.path} to have it trained again"
    if not any(record.track == track for record in records):
        raise CheckpointError(
            f"{folder.metrics} has no evaluations of {track!r}, which {folder.summary} has; {cure}", path=folder.metrics
        )
    for text in columns:
        if track not in scores.get(text, {track: None}):
            raise CheckpointError(
                f"{job.scores_file} lacks {text} of {track!r}; delete it to have it scored again", path=job.scores_file
            )


def _write(comparison: Comparison, configs: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> None:
    result = {"command": sys.argv, "seeds": comparison.seeds, **hardware(), **comparison.to_json()}
    text, markdown, picture = (folder / f"comparison.{suffix}" for suffix in ("json", "md", "png"))
    write_json(text, result)
    write_text(markdown, f"{comparison.table(markdown=True)}\n\n{comparison.notes()}\n")
    say(f"\n{comparison.table()}\n\n{wrapped(comparison.notes(), WIDTH)}")
    if comparison.rows:
        draw_comparison(picture, comparison)
        say(f"Learning curves: {picture}")
    if rows := differences_of(comparison, groups_of(comparison, configs)):
        draw_differences(folder / DIFFERENCES, rows, comparison.attacks, comparison.against)
        say(f"Differences to {comparison.against}: {folder / DIFFERENCES}")
    say(f"Table and numbers: {markdown}, {text}")
