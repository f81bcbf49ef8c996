"""The verb ``compare``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buttress.cli.answer import json_answer
from buttress.cli.candidates import configs
from buttress.cli.options import NUMBER, launcher_options, part_of, runs_option, trust_option
from buttress.cli.processes import refusal
from buttress.cli.verb import option, verb
from buttress.console.output import notice, say

if TYPE_CHECKING:
    from buttress.engine.joining import Launch


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
@option(
    "--only",
    metavar="I/N",
    show_default="1/1, or the rank among the processes of torchrun or srun",
    help="train the I-th of N parts of the runs, for several machines",
)
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
    only: str | None,
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
    from buttress.comparing.partners import process_alone
    from buttress.comparing.sweep import plan, seeds_of
    from buttress.engine.joining import Launch
    from buttress.errors import ConfigError
    from buttress.launching.chosen import load_launcher
    from buttress.storage.user_path import user_path

    launch = Launch.of()
    if status:
        return _status(runs, name, as_json) if launch.rank == 0 else ""
    _expect_no_other_shares(launch, only, launcher)
    with process_alone(launch), _said_once(launch, runs / name):
        if as_json:
            raise ConfigError("expected --status beside it; a comparison writes comparison.json", key="--json")
        files = [user_path(word) for word in overrides if "=" not in word]
        if not files:
            raise ConfigError("compare: expected at least one CONFIG, a YAML file, beside key=value")
        if jobs is not None and jobs < 1:
            raise ConfigError("expected a number >= 1", key=f"--jobs {jobs}")
        settings, chosen = seeds_of([word for word in overrides if "=" in word], seeds)
        variants, chosen_launcher = plan(files, settings), load_launcher(launcher, launcher_settings)
        if launch.rank == 0:
            notice(f"checking {len(variants)} configs ..." if len(variants) > 1 else "checking the config ...")
        comparison = train_all(
            variants,
            chosen,
            runs,
            name,
            attacks=attacks,
            jobs=jobs,
            launcher=chosen_launcher,
            only=(1, 1) if only is None else part_of(only, "--only"),
            launch=launch,
            baseline=baseline,
            say=say if launch.rank == 0 else _say_nothing,
            trust=trust,
        )
        _expect_no_failures(len(comparison.failed), launch)
    return ""


def _say_nothing(text: str) -> None:
    pass


def _expect_no_other_shares(launch: Launch, only: str | None, launcher: str) -> None:
    """Refuse other ways of sharing the runs beside those of torchrun and srun.

    Raises:
        ConfigError: ``--only`` or another launcher than ``local``, and several processes.
    """
    share = f"the {launch.size} processes that torchrun or srun has started"
    if launch.size > 1 and only is not None:
        cure = "leave --only out, or start one process"
        raise refusal(launch, f"{share} share the runs by themselves; {cure}", key=f"--only {only!r}")
    if launch.size > 1 and launcher != "local":
        cure = "leave --launcher out, or start one process"
        raise refusal(launch, f"{share} carry out the runs themselves; {cure}", key=f"--launcher {launcher}")


@contextmanager
def _said_once(launch: Launch, folder: Path) -> Iterator[None]:
    """Let rank 0 print what all ranks see: wrong input, and a request to stop; the others print what is theirs."""
    from buttress.comparing.partners import Partners
    from buttress.errors import ButtressError, InputError, InterruptionError

    try:
        yield
    except ButtressError as problem:
        if launch.rank > 0:
            problem.rank = launch.rank
            is_of_all = isinstance(problem, InputError) and not Partners(launch, folder).is_first_there()
            problem.reported |= is_of_all or isinstance(problem, InterruptionError)
        raise


def _expect_no_failures(count: int, launch: Launch) -> None:
    """Expect that all runs are done; rank 0 prints the error for those of all ranks.

    Raises:
        WorkError: some failed.
    """
    from buttress.errors import WorkError

    if count:
        runs = "1 run" if count == 1 else f"{count} runs"
        problem = WorkError(f"{runs} failed; the table has the others; give the same command again to try once more")
        problem.reported = launch.rank > 0
        raise problem


def _status(runs: Path, name: str, as_json: bool) -> str:
    from buttress.comparing.status import status_json, status_of, status_text

    rows = status_of(runs, name)
    return json_answer(status_json(rows)) if as_json else status_text(rows)
