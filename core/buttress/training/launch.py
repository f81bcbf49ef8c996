"""Start a run, or continue one."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from buttress.components.own_modules import origin
from buttress.config.file import ConfigFile, dump_config, load_config
from buttress.config.known_names import expect_known_names
from buttress.console.reporter import Reporter
from buttress.data import Data
from buttress.engine.world import World
from buttress.errors import RunFolderError
from buttress.kernels import use_backend
from buttress.storage.files import remove_leftovers, storage_errors
from buttress.storage.run_folder import RunFolder, planned_folder
from buttress.training.assembly import Assembly, assemble, check_last_batch
from buttress.training.checkpoint import list_checkpoints
from buttress.training.continuation import Surroundings
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.forecast import Forecast
from buttress.training.forecast import forecast as forecast_cost
from buttress.training.kept_state import expect_keepable
from buttress.training.manifest import code_records, manifest
from buttress.training.named_files import expect_same_files, named_files
from buttress.training.notes import before_training
from buttress.training.ranks import at_work_in, expect_alike, expect_enough, expect_shared, reporter_of
from buttress.training.records import read_metrics
from buttress.training.rng_states import seed_globally
from buttress.training.same_data import expect_same_data
from buttress.training.selection import TrackSummary
from buttress.training.threat_model import check_radii
from buttress.training.trainer import Trainer


@dataclass(frozen=True)
class Started:
    """A run that has its folder, and has not trained yet."""

    folder: RunFolder
    assembly: Assembly
    reporter: Reporter
    cost: Forecast | None

    def finish(self) -> list[TrackSummary]:
        """Train to the end; returns best, last and diff of every track.

        Raises:
            WorkError: training could not go on; the run can be resumed.
        """
        with at_work_in(self.folder, self.assembly.engine.world, self.reporter):
            return Trainer(self.assembly, self.folder, self.reporter, self.cost).run()


def launch(file: ConfigFile, runs: Path, run: str | None = None, **options: Any) -> list[TrackSummary]:
    """Start a run and finish it; see ``start`` for the arguments.

    Returns:
        Best, last and diff of every track; empty for a dry run.

    Raises:
        InputError: anything about the input; no run folder has been made.
        WorkError: training could not go on; the run can be resumed.
    """
    started = start(file, runs, run, **options)
    return started.finish() if started else []


def start(
    file: ConfigFile,
    runs: Path,
    run: str | None = None,
    *,
    dry_run: bool = False,
    forecast: bool = True,
    same_data_as: RunFolder | None = None,
    reporter: Reporter | None = None,
    world: World | None = None,
) -> Started | None:
    """Check everything, forecast the cost, and make the folder of a run.

    Args:
        file: the config.
        runs: folder of all runs.
        run: name of the run folder, or None for the time; where that is taken, ``-2`` and so on is added.
        dry_run: whether to stop after the forecast; nothing is written.
        forecast: whether to forecast the cost of the run.
        same_data_as: folder of a run whose data and named files the new run has to share, or None.
        reporter: reporter for the user; by default on standard output.
        world: processes that train the run together, of which each makes this call; None: this one alone.

    Returns:
        The run, whose ``finish`` trains it; None for a dry run.

    Raises:
        InputError: anything about the input; no run folder has been made.
    """
    world = World() if world is None else world
    if world.is_main:
        planned_folder(
            runs, file.config.name, run
        )  # a name that is taken or wrong is refused before anything is loaded
    file.own.expect_trusted()
    expect_alike(world, file)
    expect_enough(world, file)
    reporter, cost = reporter or reporter_of(world), None
    with reporter, use_backend(file.config.backend):
        expect_known_names(file)
        file.check_schedule()
        check_radii(file, file.config.epochs)
        reporter.doing(f"loading the data: {file.config.data.chosen}")
        data, settings = world.in_turn(lambda: load_data(file), "data")
        if same_data_as is not None:
            expect_same_data(same_data_as, data.fingerprint, reporter.say)
            expect_same_files(same_data_as)
        reporter.doing(f"building the model: {file.config.model.chosen}")
        with tempfile.TemporaryDirectory() as scratch:  # calibrated on objects that are thrown away
            probe = assemble(file, data, settings, Path(scratch))
            check_last_batch(probe)
            _describe(reporter, probe)
            if forecast and world.is_main:
                reporter.doing("timing a few steps")
                cost = forecast_cost(probe).on(world.size)
                reporter.say(f"cost: {cost}")
            expect_keepable(probe.engine)
            del probe
        world.wait("forecast")
        if dry_run:
            reporter.say("dry run: everything is in order; nothing was written")
            return None
        folder, assembly = _in_new_folder(file, data, settings, runs, run, world)
    return Started(folder, assembly, reporter, cost)


def _in_new_folder(
    file: ConfigFile, data: Data, settings: dict[str, Any], runs: Path, run: str | None, world: World
) -> tuple[RunFolder, Assembly]:
    """Everything that a run needs, and its folder, which is made last: plugins may still refuse their settings."""
    while True:
        planned = planned_folder(runs, file.config.name, run).path if world.is_main else runs
        planned = planned if world.size == 1 else planned.absolute()  # other ranks may begin elsewhere
        folder = RunFolder(world.from_main(planned, "run folder"))
        torch.manual_seed(file.config.seed)  # for a user's model; nothing built in draws from it
        assembly = assemble(file, data, settings, folder.history, world)
        assembly.engine.tracks()
        made = _created(folder, assembly, must_be_new=run is not None) if world.is_main else True
        if not world.from_main(made, "run folder"):
            continue  # a run that was started in the same second has taken the name
        expect_shared(world, folder.config)
        if world.is_main:
            # It has run, and is not asked about when this run, whose config has every default, is looked at or
            # continued.
            load_config(folder.config).own.trust()
        if world.size > 1:
            seed_globally(world, file.config.seed)
        return folder, assembly


def _created(folder: RunFolder, assembly: Assembly, *, must_be_new: bool) -> bool:
    """Make the folder of a run, with config and manifest.

    Returns:
        Whether the name was free.

    Raises:
        RunFolderError: it was not, and it ``must_be_new``.
    """
    copied = assembly.file.plugins_file
    copies = {} if copied is None else {copied.name: copied.source}
    order = assembly.engine.hooks.order()
    try:
        folder.create(
            dump_config(assembly.resolved),
            manifest(assembly.engine.plugins, assembly.evaluator.attack, order, _facts(assembly)),
            copies,
        )
    except RunFolderError:
        if must_be_new:
            raise
        return False
    return True


def _facts(assembly: Assembly) -> dict[str, Any]:
    """The facts of the manifest beside versions, hardware and plugins."""
    file, data = assembly.file, assembly.data
    facts = {
        "data": {
            "splits": {name: len(split) for name, split in data.splits().items()},
            **data.notes,
            "fingerprint": data.fingerprint,
        },
        "parameters": sum(weight.numel() for weight in assembly.engine.model.parameters()),
        "seed": file.config.seed,
        "processes": assembly.engine.world.size,
        "precision": assembly.engine.at_work.precision.words,
        "length": asdict(assembly.length),
        "drops": list(assembly.schedule.drops(assembly.length.time)),  # for reports, which execute nothing of a run
    }
    if file.plugins_file is not None:
        facts["plugins_file"] = {"name": file.plugins_file.name, "sha256": file.plugins_file.sha256}
    files = named_files(assembly.resolved)
    if files:
        facts["files"] = files
    if file.targets():
        facts["modules"] = {name: origin(target, file.modules) for name, target in file.targets().items()}
    return facts


def continue_run(
    path: Path,
    reporter: Reporter | None = None,
    *,
    trust: bool = False,
    accept_changes: bool = False,
    world: World | None = None,
) -> list[TrackSummary]:
    """Continue a run at its newest good checkpoint, to the same end as if it had never stopped.

    One that was killed before the checkpoint of step 0 begins anew.

    Args:
        path: run folder.
        reporter: reporter for the user; by default on standard output.
        trust: whether to execute the code that came with the run, and remember it as trusted.
        accept_changes: whether to go on with other code of its plugins than at the start; its manifest records it.
        world: processes that train the run together, of which each makes this call; None: this one alone.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        RunFolderError, CheckpointError: no run folder, no checkpoint that can be loaded, a file that a setting names is
            gone or has been changed, or the code of its plugins is another now.
        DataError: the data are not those that the run was started with.
    """
    world = World() if world is None else world
    reporter = reporter or reporter_of(world)
    expect_shared(world, path)
    folder = world.in_turn(lambda: existing_folder(path, reporter.say), "run folder")
    file = load_config(folder.config, trust=trust)
    file.own.expect_trusted()
    expect_alike(world, file)
    expect_enough(world, file)
    with at_work_in(folder, world, reporter):
        with reporter, use_backend(file.config.backend):
            expect_known_names(file)
            reporter.doing(f"loading the data: {file.config.data.chosen}")
            data, settings = world.in_turn(lambda: load_data(file), "data")
            expect_same_data(folder, data.fingerprint, reporter.say)
            expect_same_files(folder)
            anew = world.from_main(_ended_before_its_first_checkpoint(folder, file.config.checkpoint.every), "start")
            if anew and world.is_main:
                reporter.say("the run ended before its first checkpoint: it begins anew")
                _remove_results(folder)
            world.wait("start")
            reporter.doing("loading the newest checkpoint")
            torch.manual_seed(file.config.seed)
            assembly = assemble(file, data, settings, folder.history, world)
            if world.size > 1:
                seed_globally(world, file.config.seed)
            surroundings = Surroundings(folder, code_records(assembly.engine.plugins, assembly.evaluator.attack))
            surroundings.expect_same_code(accept_changes)
            surroundings.say(reporter.say)
            _say_loss(reporter, assembly)
            trainer = Trainer(assembly, folder, reporter)
            if not anew:
                trainer.resume()
            if assembly.engine.epoch < assembly.length.epochs and world.is_main:
                surroundings.record(accept_changes)
        return trainer.run()


def _ended_before_its_first_checkpoint(folder: RunFolder, every: int) -> bool:
    """Whether no checkpoint can have been: ``every`` is the number of epochs from one to the next."""
    if folder.summary.exists() or list_checkpoints(folder.checkpoints):
        return False
    return len(read_metrics(folder).events("epoch")) <= every


def _remove_results(folder: RunFolder) -> None:
    """Bring the folder of a run back to its state before the first step."""
    remove_leftovers(folder.path)
    with storage_errors(folder.path):
        for path in (folder.checkpoints, folder.weights, folder.history):
            if path.is_dir():
                shutil.rmtree(path)
        folder.metrics.write_bytes(b"")


def _describe(reporter: Reporter, assembly: Assembly) -> None:
    order = assembly.engine.hooks.order()
    _say_loss(reporter, assembly)
    if assembly.file.disabled:
        reporter.say(f"left out by disable: {', '.join(assembly.file.disabled)}")
    reporter.say("hooks: " + "; ".join(f"{hook}: {', '.join(labels)}" for hook, labels in order.items()))
    reporter.say("data: " + ", ".join(f"{name} {len(split)}" for name, split in assembly.data.splits().items()))
    for text in before_training(assembly):
        reporter.say(f"note: {text}")


def _say_loss(reporter: Reporter, assembly: Assembly) -> None:
    losses = assembly.engine.hooks.order().get("compute_loss", [])
    if "cross_entropy" in losses and not any("cross_entropy" in entry for entry in assembly.file.config.plugins):
        reporter.say("loss: no plugin provides one, so it is cross_entropy")
