"""The verb ``search``."""

from __future__ import annotations

from pathlib import Path

import click

from buttress.cli.answer import json_answer
from buttress.cli.candidates import configs
from buttress.cli.options import FILE, NUMBER, WordType, json_option, launcher_options, runs_option, trust_option
from buttress.cli.processes import refusal
from buttress.cli.verb import option, verb
from buttress.console.output import notice, say


@verb(imports_torch=True)
@click.argument(
    "config",
    type=FILE,
    metavar="CONFIG",
    help="YAML file, or distribution:recipe (listed by: buttress recipes list)",
    shell_complete=configs,
)
@click.argument(
    "overrides",
    nargs=-1,
    required=True,
    metavar="key=log(a,b)|a:b|a,b,c|value...",
    help="settings to search: log-uniform between two numbers, uniform between two (whole ones where both and the "
    "setting are), or one of several values; and settings that hold in every trial",
)
@option("--trials", type=NUMBER, metavar="N", default=30, help="number of trials, those of earlier commands included")
@option("--seeds", metavar="N|A,B", default="1", help="number of seeds of each trial, or the seeds themselves like 4,7")
@option("--pruner", type=WordType(["median", "none"]), default="median", help="pruner, which ends trials early")
@option("--seed", type=NUMBER, metavar="N", default=0, help="seed of the sampler")
@option("--track", metavar="TRACK", default="live", help="track that is measured: live, or the name of an ensemble")
@option(
    "--jobs",
    type=NUMBER,
    metavar="N",
    default=1,
    help="number of runs at once; local ones have their share of the CPUs as threads each",
)
@option("--name", metavar="NAME", default="search", help="name of the search, and of its folder")
@runs_option
@launcher_options
@trust_option("a config in a run folder")
@json_option
def search(
    config: Path,
    overrides: tuple[str, ...],
    trials: int,
    seeds: str,
    pruner: str,
    seed: int,
    track: str,
    jobs: int,
    name: str,
    runs: Path,
    launcher: str,
    launcher_settings: tuple[str, ...],
    trust: bool,
    as_json: bool,
) -> str:
    """Choose settings by robust accuracy on the validation split, with Optuna."""
    from buttress.comparing.sweep import seeds_of
    from buttress.console.reporter import plain_console
    from buttress.engine.joining import Launch
    from buttress.errors import ConfigError, WorkError
    from buttress.launching.chosen import load_launcher
    from buttress.searching.search import SearchOrder
    from buttress.searching.search import search as run_search
    from buttress.searching.space import read_space

    if (launch := Launch.of()).size > 1:
        raise refusal(
            launch,
            f"a search is one process, and torchrun or srun has started {launch.size}; start it alone, with --jobs N "
            "or --launcher NAME for several runs at once",
            key="search",
        )
    for option_name, value in (("--trials", trials), ("--jobs", jobs)):
        if value < 1:
            raise ConfigError("expected a number >= 1", key=f"{option_name} {value}")
    space = read_space(overrides)
    _, chosen = seeds_of([], seeds)
    chosen_launcher = load_launcher(launcher, launcher_settings)
    notice("checking the config and the space ...")
    result, failures = run_search(
        SearchOrder(config, space, chosen, trials, track, seed, pruner, trust),
        runs,
        name,
        chosen_launcher,
        jobs=jobs,
        say=notice if as_json else say,
        console=plain_console(stderr=as_json),
    )
    answer = json_answer(result.to_json()) if as_json else ""
    if failures:
        say(answer)
        count = "1 trial" if failures == 1 else f"{failures} trials"
        raise WorkError(f"{count} failed; the table says why; the same command again tries others in their place")
    if result.test is None:
        say(answer)
        raise WorkError("no trial came through; the table says why; search other settings under another --name")
    return answer
