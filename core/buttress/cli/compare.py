"""The verb ``compare``."""

from __future__ import annotations

from pathlib import Path

import click

from buttress.cli.answer import json_answer
from buttress.cli.candidates import configs
from buttress.cli.options import NUMBER, launcher_options, part_of, runs_option, trust_option
from buttress.cli.verb import option, verb
from buttress.console.output import notice, say


@verb(imports_torch=True)
@click.argument(
    "overrides",
    nargs=-1,
    metavar="CONFIG|key=a,b,c...",
    help="YAML files or recipes, and settings for them; several values of a setting are a sweep",
    shell_complete=configs,
)
@option(
    "--seeds", metavar="N|A,B", show_default="3", help="number of seeds, or the seeds themselves like 4,7; or seed=7"
)
@option(
    "--jobs",
    type=NUMBER,
    metavar="N",
    show_default="1 with the launcher local",
    help="number of runs at once; local ones have their share of the CPUs as threads each",
)
@option("--only", metavar="I/N", default="1/1", help="train the I-th of N parts of the runs, for several machines")
@option("--name", metavar="NAME", default="compare", help="name of the comparison, and of its folder")
@runs_option
@option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="ATTACK",
    help="further attack on the best and the last weights of every track, as in evaluate; may be repeated",
)
@option(
    "--baseline",
    metavar="METHOD",
    show_default="the first config",
    help="name of the config that paired differences refer to",
)
@launcher_options
@option(
    "--status",
    is_flag=True,
    help="show which runs are done, running, failed and waiting, and train nothing; needs no CONFIG",
)
@option("--json", "as_json", is_flag=True, help="print the --status as JSON")
@trust_option("a config in a run folder")
def compare(
    overrides: tuple[str, ...],
    seeds: str | None,
    jobs: int | None,
    only: str,
    name: str,
    runs: Path,
    attacks: tuple[str, ...],
    baseline: str | None,
    launcher: str,
    launcher_settings: tuple[str, ...],
    status: bool,
    as_json: bool,
    trust: bool,
) -> str:
    """Train configs x swept settings x seeds, into one table and two pictures."""
    from buttress.comparing.compare import compare as train_all
    from buttress.comparing.sweep import plan, seeds_of
    from buttress.errors import ConfigError, WorkError
    from buttress.launching.chosen import load_launcher
    from buttress.storage.user_path import user_path

    if status:
        return _status(runs, name, as_json)
    if as_json:
        raise ConfigError("expected --status beside it; a comparison writes comparison.json", key="--json")
    files = [user_path(word) for word in overrides if "=" not in word]
    if not files:
        raise ConfigError("compare: expected at least one CONFIG, a YAML file, beside key=value")
    if jobs is not None and jobs < 1:
        raise ConfigError("expected a number >= 1", key=f"--jobs {jobs}")
    settings, chosen = seeds_of([word for word in overrides if "=" in word], seeds)
    variants, chosen_launcher = plan(files, settings), load_launcher(launcher, launcher_settings)
    notice(f"checking {len(variants)} configs ..." if len(variants) > 1 else "checking the config ...")
    comparison = train_all(
        variants,
        chosen,
        runs,
        name,
        attacks=attacks,
        jobs=jobs,
        launcher=chosen_launcher,
        only=part_of(only, "--only"),
        baseline=baseline,
        say=say,
        trust=trust,
    )
    if comparison.failed:
        count = "1 run" if len(comparison.failed) == 1 else f"{len(comparison.failed)} runs"
        raise WorkError(f"{count} failed; the table has the others; give the same command again to try once more")
    return ""


def _status(runs: Path, name: str, as_json: bool) -> str:
    from buttress.comparing.status import status_json, status_of, status_text

    rows = status_of(runs, name)
    return json_answer(status_json(rows)) if as_json else status_text(rows)
