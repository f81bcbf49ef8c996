"""``buttress search``: choose settings of a config by robust accuracy on the validation split, with Optuna.

The test split decides nothing; the test accuracies of the best trial are read when every trial has ended. The same
command goes on where the last one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rich.console import Console

from buttress.comparing.board import Board
from buttress.comparing.jobs import Job
from buttress.config.file import dump_config
from buttress.config.yaml_source import read_yaml
from buttress.errors import RunFolderError
from buttress.launching.launcher import Launcher
from buttress.searching.driver import Driver
from buttress.searching.picture import draw_search
from buttress.searching.result import SearchResult, ranked, scores_of
from buttress.searching.space import Space
from buttress.searching.study import OptunaStudy, SearchTrial, import_optuna
from buttress.searching.study_file import expect_same_study, study_facts, write_study
from buttress.searching.template import CheckedConfig, Template, check_space, jobs_of
from buttress.storage.files import write_bytes, write_json, write_text
from buttress.storage.leases import holder_of, leased
from buttress.training.manifest import hardware

JOURNAL, BEST = "study.journal", "best.yaml"
"""Names of Optuna's journal, and of the config of the best trial, in the folder of a search."""


@dataclass(frozen=True)
class SearchOrder:
    """An order for a search.

    Args:
        config: path of the config, or a recipe.
        space: settings to choose, and overrides of every trial.
        seeds: seeds of every trial.
        trials: number of trials that are to have ended.
        track: track whose accuracy is maximised.
        seed: seed of the sampler.
        pruner: ``"median"`` or ``"none"``.
        trust: whether to execute the code of a config that came with a run, and remember it as trusted.
    """

    config: Path
    space: Space
    seeds: Sequence[int]
    trials: int
    track: str = "live"
    seed: int = 0
    pruner: str = "median"
    trust: bool = False


def search(
    order: SearchOrder,
    runs: Path,
    name: str,
    launcher: Launcher,
    *,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    console: Console | None = None,
) -> tuple[SearchResult, int]:
    """Run a search, or go on with it.

    Args:
        order: space, seeds and number of trials.
        runs: folder of all runs; the search lives in ``runs/name/``.
        name: name of the search.
        launcher: launcher of its runs.
        jobs: largest number of runs at once: the fewer, the more does a trial know of others.
        say: function that receives lines of progress.
        console: console on which bars of progress are drawn; standard output by default.

    Returns:
        The result, and the number of trials that failed here.

    Raises:
        InputError: wrong input; nothing has been written.
        InterruptionError: Ctrl-C or another signal asked to stop; the runs have saved themselves.
        WorkError: several trials in a row come to no value.
    """
    import_optuna()  # before anything takes time
    folder = runs / name
    template = Template(order.config, order.space.fixed, name, trust=order.trust)
    space, checked = check_space(template, order.space, order.track)
    facts = study_facts(checked, space, order.seeds, order.track, order.seed, order.pruner)
    expect_same_study(folder, facts)
    taken_over, lease = Event(), folder / "logs" / "search.lease"
    with leased(lease, lost=taken_over.set) as mine:
        if mine is None:
            raise RunFolderError(
                f"another process is at work on the search in {folder} ({holder_of(lease)}); wait for it, or choose "
                "another --name",
                path=folder,
            )
        expect_same_study(folder, facts)  # another process may have begun it meanwhile
        study = OptunaStudy(folder / JOURNAL, space, order.seed, order.pruner)
        write_study(folder, facts)

        def runs_of(trial: SearchTrial) -> list[Job]:
            return jobs_of(trial.number, template.check(trial.settings), order.seeds, folder)

        launcher.open(folder / "logs", jobs)
        driver = Driver(study, launcher, runs_of, order.trials, order.track, say, Board(say, console), taken_over)
        failures = driver.run()
        return _conclude(order, study, space, checked, template, folder, say), failures


def _conclude(
    order: SearchOrder,
    study: OptunaStudy,
    space: Space,
    checked: CheckedConfig,
    template: Template,
    folder: Path,
    say: Callable[[str], None],
) -> SearchResult:
    """Read the test accuracies of the best trial, and write everything."""
    trials = study.trials()
    best = next(iter(ranked(trials)), None)
    own = [] if best is None else jobs_of(best.number, checked, order.seeds, folder)
    test = scores_of(own, order.track) if own else None
    keys = [each.key for each in space.dimensions]
    result = SearchResult(trials, keys, order.track, checked.attack, order.seeds, test)
    facts = {
        "space": {each.key: str(each) for each in space.dimensions},
        "pruner": order.pruner,
        "sampler_seed": order.seed,
        **hardware(),
        **result.to_json(),
    }
    write_json(folder / "search.json", {"command": sys.argv, **facts})
    write_text(folder / "search.md", f"{result.text(markdown=True)}\n")
    say(f"\n{result.text()}\n")
    if own:
        _write_best(own[0], template, folder)
        draw_search(folder / "search.png", result, space.dimensions)
        say(f"Best config: {folder / BEST}\nPicture: {folder / 'search.png'}")
    say(f"Table and numbers: {folder / 'search.md'}, {folder / 'search.json'}")
    return result


def _write_best(job: Job, template: Template, folder: Path) -> None:
    """Write the config of a run as one to train from, under the name of the config that was searched."""
    config = read_yaml(job.folder.config).value
    config["name"] = template.config_name
    config.pop("targets", None)  # numbers that others published for other settings
    copied = config.get("plugins_file")
    if copied:
        write_bytes(folder / copied, (job.folder.path / copied).read_bytes())
    write_text(folder / BEST, dump_config(config))
