"""A run on several processes: they meet, compare what they were given, and one of them writes and speaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch.distributed as dist
from rich.console import Console

from buttress._version import __version__
from buttress.config.file import ConfigFile
from buttress.console.reporter import Reporter
from buttress.console.tracebacks import tracebacks_in
from buttress.engine.joining import join
from buttress.engine.world import World
from buttress.errors import ConfigError, RunFolderError
from buttress.storage.run_folder import RunFolder
from buttress.training.manifest import package_versions


@contextmanager
def ranks() -> Iterator[World]:
    """The processes that torchrun or srun has started with this one; an error of one ends all of them.

    Raises:
        RanksError: they do not meet, or one of them has ended.
    """
    world = join()
    with world.together():
        yield world
    if world.size > 1:
        dist.destroy_process_group()


def reporter_of(world: World) -> Reporter:
    """A reporter for the user; on other ranks than the main one it says nothing."""
    return Reporter() if world.is_main else Reporter(console=Console(quiet=True))


@contextmanager
def at_work_in(folder: RunFolder, world: World, reporter: Reporter) -> Iterator[None]:
    """Work in the folder of a run: the main rank holds it, and each rank has a log for tracebacks.

    Raises:
        RunFolderError: another process is at work there.
    """
    with ExitStack() as stack:
        log = folder.log
        if world.is_main:
            stack.enter_context(folder.held())
            reporter.write_to(log)
        else:
            log = log.with_name(f"log-rank-{world.rank}.txt")
        stack.enter_context(tracebacks_in(log))
        yield


def expect_alike(world: World, file: ConfigFile) -> None:
    """Expect the same config, code and packages on all ranks.

    Raises:
        ConfigError: they differ; the message names the rank and the first difference.
    """
    if world.size == 1:
        return
    config = file.config.model_dump(mode="json")
    facts = {"buttress": __version__, **package_versions(), **{f"config: {key}": _text(config[key]) for key in config}}
    if file.plugins_file is not None:
        facts["plugins_file"] = file.plugins_file.sha256
    main, *others = world.gathered(facts, "config and versions")
    for rank, other in enumerate(others, 1):
        for key in sorted({*main, *other}):
            if main.get(key) != other.get(key):
                raise ConfigError(
                    f"rank {rank} has another {key} than rank 0 ({other.get(key)} there, {main.get(key)} here); start "
                    "all processes with one config and one environment"
                )


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def expect_enough(world: World, file: ConfigFile) -> None:
    """Expect at least one example of a batch for every rank.

    Raises:
        ConfigError: the batch is smaller than the number of processes.
    """
    size = file.config.data.batch_size
    if size < world.size:
        raise ConfigError(
            f"expected at least {world.size}, an example for each process that shares a batch, got {size}; start "
            "fewer processes, or raise it",
            key=file.place / "data" / "batch_size",
        )


def expect_shared(world: World, path: Path) -> None:
    """Expect that all ranks see a file or folder of the run.

    Raises:
        RunFolderError: some do not.
    """
    blind = [rank for rank, sees in enumerate(world.gathered(path.exists(), "run folder")) if not sees]
    if blind and len(blind) < world.size:
        raise RunFolderError(
            f"{path} is not seen by rank {', '.join(map(str, blind))} of {world.size}: the folder of a run on several "
            "machines must be one that all of them share; choose another --runs",
            path=path,
        )
