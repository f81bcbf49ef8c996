"""The folder of a run: ``runs/<name>/<time or given>/``, made once everything that can be checked has been."""

import fcntl
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from buttress.components.own_modules import expect_unchanged
from buttress.components.plugins_file import PluginsFile, read_plugins_file
from buttress.errors import CheckpointError, RunFolderError, StorageError, nearest
from buttress.storage.files import finished_files, read_json, storage_errors, unshare_file, write_bytes, write_text
from buttress.storage.names import is_plain_name
from buttress.storage.new_folder import new_folder
from buttress.storage.regular_file import expect_file_or_folder, read_regular_file
from buttress.storage.seals import read_sealed, write_sealed
from buttress.training.manifest import as_manifest

logger = logging.getLogger("buttress")

FORMAT = 3
"""Of run folders: which files there are, and what they hold. Checkpoints and configs have formats of their own.

1: as 2, but metrics counted epochs from 0. Such a run goes on as it began; ``training.records`` counts from 1.
2: as 3, but runs had no id, and the keys of the manifest were sorted.
"""


class RunFolder:
    """Paths inside a run folder.

    ========================  ==================================================
    ``config.yaml``           the config with every default filled in
    ``<plugins_file>``        a copy of the config's own file of plugins, where it has one
    ``manifest.json``         versions, plugins, hooks, hardware, git, the config
    ``metrics.jsonl``         one JSON object a line: training, evaluation
    ``log.txt``               what the console showed
    ``checkpoints/``          for resuming
    ``weights/``              best and last weights of every track
    ``history/``              snapshots that plugins keep
    ``eval/``                 results of ``buttress evaluate``
    ``analysis/``             results of ``buttress analyze``
    ``summary.json``          best, last and diff of every track
    ``curves.png``            learning curves
    ``audit.json``            findings of ``buttress audit``
    ``tensorboard/``          event files, with ``loggers: [tensorboard]``
    ========================  ==================================================
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.metrics = path / "metrics.jsonl"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.weights = path / "weights"
        self.history = path / "history"
        self.eval = path / "eval"
        self.analysis = path / "analysis"
        self.summary = path / "summary.json"
        self.curves = path / "curves.png"
        self.audit = path / "audit.json"
        self._descriptor: int | None = None
        self._holder: int | None = None

    def create(self, config_text: str, manifest: Mapping[str, Any], plugins_file: PluginsFile | None = None) -> None:
        """Make the folder with its config, a copy of the config's file of plugins, and the manifest, which holds the
        config too, and an id by which the run knows its checkpoints; it appears with all of them.

        Raises:
            RunFolderError: it exists.
            StorageError: it cannot be written.
        """
        try:
            with new_folder(self.path) as path:
                RunFolder(path)._fill(config_text, manifest, plugins_file)
        except FileExistsError:
            raise RunFolderError(_exists(self.path)) from None

    def _fill(self, config_text: str, manifest: Mapping[str, Any], plugins_file: PluginsFile | None) -> None:
        with storage_errors(self.path):
            self.metrics.touch()
            self.log.touch()
        if plugins_file is not None:
            write_bytes(self.path / plugins_file.name, plugins_file.source)
        write_sealed(self.manifest, {"format": FORMAT, "id": token_hex(16), **manifest, "config": config_text})
        write_text(self.config, config_text)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working here, and let ``expect_there`` notice when the folder is taken away.

        What is appended to in here changes nothing outside of it, whatever further names it has.

        Raises:
            RunFolderError: another process is at work here.
            StorageError: it cannot be opened.
        """
        with storage_errors(self.path):
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(f"{self.path}: a process is at work there; wait for it, or stop it") from None
            except OSError:
                pass  # some network file systems have no locks, and train all the same
            self._descriptor, self._holder = descriptor, os.getpid()
            for path in (self.metrics, self.log):
                unshare_file(path)
            yield
        finally:
            self._descriptor = None
            os.close(descriptor)

    def expect_there(self) -> None:
        """Made before anything that would make missing folders: a run never goes on in half a folder.

        Raises:
            StorageError: the folder has been deleted, moved or replaced since ``held``; or this process was forked from
                the one that holds it.
        """
        if self._descriptor is None:
            return
        if os.getpid() != self._holder:
            raise StorageError(
                f"{self.path} is written by process {self._holder}, of which this one, {os.getpid()}, was forked; end "
                "a child with os._exit()"
            )
        with storage_errors(self.path):
            if not os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                raise StorageError(f"{self.path} has been replaced by another folder; this run cannot be saved there")

    def weights_file(self, which: str, track: str) -> Path:
        """``weights/best-meat.safetensors``."""
        return self.weights / f"{which}-{track}.safetensors"

    def saved_weights(self, which: str, track: str) -> Path:
        """The weights file of ``track``, which is there.

        Raises:
            CheckpointError: it is not.
        """
        if not is_plain_name(track):
            raise CheckpointError(f"{self.path} has no track {track!r}: expected letters, digits, . _ - (no path)")
        path = self.weights_file(which, track)
        if path.is_file():
            return path
        saved = sorted({each.stem.partition("-")[2] for each in finished_files(self.weights, "*.safetensors")})
        if track not in saved:
            raise CheckpointError(f"{self.path} has no track {track!r}{nearest(track, saved)}")
        raise CheckpointError(
            f"{self.path} has no {which} weights of track {track!r} yet; finish it: buttress resume {self.path}"
        )


def planned_folder(runs: Path, name: str, run: str | None) -> RunFolder:
    """Where a new run will live: ``runs/<name>/<run>``, or for None the time, counted up where that is taken.

    Raises:
        RunFolderError: it exists, or ``run`` is no plain name.
    """
    if run is not None and not is_plain_name(run):
        raise RunFolderError(f"run name {run[:200]!r}: expected at most 100 letters, digits, . _ - (no path)")
    if run is None:
        now = datetime.now().strftime("%Y%m%d-%H%M%S")
        names = itertools.chain([now], (f"{now}-{number}" for number in itertools.count(2)))
        return RunFolder(next(path for each in names if not (path := runs / name / each).exists()))
    path = runs / name / run
    if path.exists():
        raise RunFolderError(_exists(path))
    return RunFolder(path)


def existing_folder(path: Path, warn: Callable[[str], None] = logger.warning, *, runs_code: bool = True) -> RunFolder:
    """The folder of a run that was started.

    Args:
        path: of the folder.
        warn: is told when its manifest is damaged.
        runs_code: the modules of its targets are about to be used, and have to be those of the run.

    Raises:
        RunFolderError: it is none, something in it is a link to elsewhere, a later version has written it, or its
            config, its file of plugins or a module of a target is not the one that the run was started with.
        CheckpointError: its manifest is whole, and is none.
        ConfigError: its file of plugins cannot be read.
    """
    folder = RunFolder(path)
    try:
        if not folder.config.is_file() or not folder.manifest.is_file():
            raise RunFolderError(_no_run_folder(path))
        found = read_regular_file(folder.config)
    except OSError as problem:
        raise RunFolderError(f"{path} cannot be read: {problem.strerror}; check its permissions") from None
    _expect_inside(path)
    _expect_format(folder.manifest)
    try:
        body = read_sealed(folder.manifest)
    except CheckpointError as problem:
        warn(f"{problem}; whether {folder.config} is the one that the run was started with is not known")
        return folder
    recorded = as_manifest(body, folder.manifest)
    _expect_config(folder.config, found, recorded.config)
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
    inside = sorted(str(run.parent) for run in path.glob("[!.]*/manifest.json"))
    hint = f"; runs in it: {', '.join(inside[:5])}{' ...' if len(inside) > 5 else ''}" if inside else ""
    return f"{path} is no run folder: it has no config.yaml and manifest.json{hint}"


def _expect_config(path: Path, found: bytes, recorded: str) -> None:
    if found == recorded.encode(errors="surrogatepass"):
        return
    pairs = itertools.zip_longest(found.decode(errors="backslashreplace").split("\n"), recorded.split("\n"))
    differing = ((number, pair) for number, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
    number, (line, before) = next(differing, (1, ("other bytes", "")))
    raise RunFolderError(
        f"{path}:{number}: damaged or edited: expected {before!r}, with which the run was started, got {line!r}; put "
        "it back; for other settings start a new run"
    )


def _expect_plugins_file(folder: RunFolder, name: str, sha256: str) -> None:
    path = folder.path / name
    if read_plugins_file(path).sha256 != sha256:
        raise RunFolderError(
            f"{path} has been changed since the run was started (its sha256 is not that of {folder.manifest.name}); "
            "put it back, or start a run of the new one"
        )


def _expect_inside(path: Path) -> None:
    """A folder from somebody else must not make us write or delete outside of it, or wait for what never comes."""
    home = path.resolve()
    for parent, folders, files in os.walk(path):
        for entry in (Path(parent, name) for name in (*folders, *files)):
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                raise RunFolderError(
                    f"{entry} is a link out of the run folder, to {entry.resolve()}; copy there what it points to, or "
                    "move the whole run folder"
                )
            try:
                expect_file_or_folder(entry)
            except OSError as problem:
                raise RunFolderError(f"{entry}: {problem.strerror}; remove it from the run folder") from None


def _expect_format(path: Path) -> None:
    try:
        written = read_json(path)["format"]
    except (CheckpointError, KeyError, TypeError):  # damaged, or from before there were formats: format 1
        return
    if not (type(written) is int and 1 <= written <= FORMAT):
        raise RunFolderError(
            f"{path}: the run folder has format {written!r}, this version of buttress reads 1 to {FORMAT}; use the "
            "version that the manifest names"
        )


def first_epoch(path: Path) -> int:
    """Number of the first epoch in the metrics of the run folder ``path``: 1, and 0 in folders of format 1."""
    try:
        found = read_json(path / "manifest.json")
    except CheckpointError:  # what it said is not known: as today
        return 1
    return 0 if isinstance(found, dict) and found.get("format", 1) == 1 else 1


def counted_later(record: Mapping[str, Any], by: int) -> dict[str, Any]:
    """A record whose epochs have numbers larger ``by`` so much."""
    return {key: value + by if key in ("epoch", "healthy_epoch") else value for key, value in record.items()}


def _exists(path: Path) -> str:
    return f"{path} exists and is never overwritten; choose another --run, or continue it with: buttress resume {path}"
