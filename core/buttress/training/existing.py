"""Open the folder of an existing run, and refuse it where anything in it is not the run's own."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path

from buttress.components.own_modules import expect_unchanged
from buttress.components.plugins_file import read_plugins_file
from buttress.errors import CheckpointError, RunFolderError, nearest
from buttress.storage.regular_file import expect_file_or_folder, read_regular_file
from buttress.storage.run_folder import RunFolder
from buttress.storage.run_format import expect_known_format
from buttress.storage.seals import read_sealed
from buttress.training.manifest import as_manifest

logger = logging.getLogger("buttress")


def existing_folder(path: Path, warn: Callable[[str], None] = logger.warning, *, runs_code: bool = True) -> RunFolder:
    """Open the folder of an existing run.

    Args:
        path: path of the folder.
        warn: function that tells the user of a damaged manifest.
        runs_code: whether modules of its targets are about to be used, so that they have to be those of the run.

    Raises:
        RunFolderError: it is none, something in it is a link to elsewhere, a later version has written it, or its
            config, its file of plugins or a module of a target is not the one that the run was started with.
        CheckpointError: its manifest is whole, and is none.
        ConfigError: its file of plugins cannot be read.
    """
    folder = RunFolder(path)
    try:
        if not folder.config.is_file() or not folder.manifest.is_file():
            raise RunFolderError(_no_run_folder(path), path=path)
        config = read_regular_file(folder.config)
    except OSError as problem:
        raise RunFolderError(f"{path} cannot be read: {problem.strerror}; check its permissions", path=path) from None
    _expect_inside(path)
    expect_known_format(folder.manifest)
    try:
        body = read_sealed(folder.manifest)
    except CheckpointError as problem:
        warn(f"{problem}; whether {folder.config} is the one that the run was started with is not known")
        return folder
    recorded = as_manifest(body, folder.manifest)
    _expect_config(folder.config, config, recorded.config)
    if recorded.plugins_file is not None:
        _expect_plugins_file(folder, recorded.plugins_file.name, recorded.plugins_file.sha256)
    if runs_code:
        expect_unchanged(recorded.origins, path)
    return folder


def _no_run_folder(path: Path) -> str:
    if not path.is_dir():
        beside = [run.parent.name for run in path.parent.glob("[!.]*/manifest.json")]
        hint = nearest(path.name, beside) if beside else ""
        return f"{path} is no run folder: it {'is a file' if path.exists() else 'does not exist'}{hint}"
    inside = sorted(
        str(run.parent) for depth in ("[!.]*", "[!.]*/[!.]*") for run in path.glob(f"{depth}/manifest.json")
    )
    if not inside:
        return f"{path} is no run folder: it has no config.yaml and manifest.json"
    runs = f"a run: {inside[0]}" if len(inside) == 1 else f"{len(inside)} runs: {', '.join(inside[:5])}"
    return f"{path} is no run folder: it holds {runs}{', ...' if len(inside) > 5 else ''}; name one"


def _expect_config(path: Path, config: bytes, recorded: str) -> None:
    if config == recorded.encode(errors="surrogatepass"):
        return
    pairs = itertools.zip_longest(config.decode(errors="backslashreplace").split("\n"), recorded.split("\n"))
    differing = ((number, pair) for number, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
    number, (line, before) = next(differing, (1, ("other bytes", "")))
    raise RunFolderError(
        f"{path}:{number}: damaged or edited: expected {before!r}, with which the run was started, got {line!r}; put "
        "it back; for other settings start a new run",
        path=path,
    )


def _expect_plugins_file(folder: RunFolder, name: str, sha256: str) -> None:
    path = folder.path / name
    if read_plugins_file(path).sha256 != sha256:
        raise RunFolderError(
            f"{path} has been changed since the run was started (its sha256 is not that of {folder.manifest.name}); "
            "put it back, or start a run of the new one",
            path=path,
        )


def _expect_inside(path: Path) -> None:
    """A folder from somebody else must not make us write or delete outside of it, or wait for what never comes."""
    home = path.resolve()
    for parent, folders, files in os.walk(path):
        for entry in (Path(parent, name) for name in (*folders, *files)):
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                raise RunFolderError(
                    f"{entry} is a link out of the run folder, to {entry.resolve()}; copy there what it points to, or "
                    "move the whole run folder",
                    path=entry,
                )
            try:
                expect_file_or_folder(entry)
            except OSError as problem:
                raise RunFolderError(
                    f"{entry}: {problem.strerror}; remove it from the run folder", path=entry
                ) from None
