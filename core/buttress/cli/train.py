"""Verbs that train: ``train``, ``resume``, ``reproduce``."""

from __future__ import annotations

from pathlib import Path

from buttress.cli.options import config_arguments, processes_option, run_argument, runs_option, trust_option
from buttress.cli.processes import expect_one_process, start_processes
from buttress.cli.verb import option, verb
from buttress.console.output import say

_new_name = option("--run", "name", metavar="NAME", show_default="the time", help="name of the new run folder")


@verb(imports_torch=True)
@config_arguments
@option("--dry-run", is_flag=True, help="check everything and forecast the cost; write nothing")
@_new_name
@runs_option
@processes_option
@trust_option("a config in a run folder")
def train(
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    name: str | None,
    runs: Path,
    processes: int | None,
    trust: bool,
) -> str:
    """Train as a config describes."""
    if processes is not None:
        return start_processes(processes)
    from buttress.config.file import load_config
    from buttress.training.launch import launch
    from buttress.training.ranks import ranks

    with ranks() as world:
        launch(load_config(config, overrides, trust=trust), runs, name, dry_run=dry_run, world=world)
    return ""


@verb(imports_torch=True)
@run_argument
@option(
    "--accept-changes",
    is_flag=True,
    help="continue with other versions of the run's plugins than those it was started with",
)
@processes_option
@trust_option()
def resume(run: Path, accept_changes: bool, processes: int | None, trust: bool) -> str:
    """Continue a run from its newest good checkpoint."""
    if processes is not None:
        return start_processes(processes)
    from buttress.training.launch import continue_run
    from buttress.training.ranks import ranks

    with ranks() as world:
        continue_run(run, trust=trust, accept_changes=accept_changes, world=world)
    return ""


@verb(imports_torch=True)
@run_argument
@_new_name
@runs_option
@trust_option()
def reproduce(run: Path, name: str | None, runs: Path, trust: bool) -> str:
    """Run the config of a run again, and report every difference."""
    expect_one_process("reproduce")
    from buttress.training.reproduce import expect_equal
    from buttress.training.reproduce import reproduce as run_again

    result = run_again(run, runs, name, trust=trust)
    say(str(result))
    expect_equal(result)
    return ""
