"""The folder of a run, ``runs/<name>/<time or given>/``: paths in it, making it, and holding it."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import Any

from buttress.errors import CheckpointError, RunFolderError, StorageError, nearest
from buttress.storage.files import finished_files, storage_errors, unshare_file, write_bytes, write_text
from buttress.storage.locks import lock_of, open_lock_of, take_lock
from buttress.storage.names import is_plain_name
from buttress.storage.new_folder import new_folder
from buttress.storage.run_format import FORMAT
from buttress.storage.seals import write_sealed


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

    def create(
        self, config_text: str, manifest: Mapping[str, Any], copies: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """Create the folder together with its config, manifest and copies of files; it never appears incomplete.

        Args:
            config_text: text of the config. The manifest holds it, too.
            manifest: facts for the manifest. ``create`` adds an id, by which the run recognises its checkpoints.
            copies: bytes of each further file, by the file's name.

        Raises:
            RunFolderError: the folder exists already.
            StorageError: the folder cannot be written.
        """
        try:
            with new_folder(self.path) as path:
                RunFolder(path)._fill(config_text, manifest, copies)
        except FileExistsError:
            raise RunFolderError(_exists(self.path), path=self.path) from None

    def _fill(self, config_text: str, manifest: Mapping[str, Any], copies: Mapping[str, bytes]) -> None:
        with storage_errors(self.path):
            self.metrics.touch()
            self.log.touch()
        for name, content in copies.items():
            write_bytes(self.path / name, content)
        write_sealed(self.manifest, {"format": FORMAT, "id": token_hex(16), **manifest, "config": config_text})
        write_text(self.config, config_text)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working here, and let ``expect_there`` notice when the folder is taken away.

        Files that are appended to become the folder's own: a file elsewhere that shares them stays as it is.

        Raises:
            RunFolderError: another process is at work here.
            StorageError: it cannot be opened.
        """
        with storage_errors(self.path):
            descriptor = open_lock_of(self.path)
        try:
            if not take_lock(descriptor, wait=False):
                raise RunFolderError(
                    f"{self.path}: a process is at work there; wait for it, or stop it", path=self.path
                )
            self._descriptor, self._holder = descriptor, os.getpid()
            for path in (self.metrics, self.log):
                unshare_file(path)
            yield
        finally:
            self._descriptor = None
            os.close(descriptor)

    def expect_there(self) -> None:
        """Check that this is still the folder that is held, before missing folders in it are made.

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
            if not os.path.samestat(os.fstat(self._descriptor), lock_of(self.path).stat()):
                raise StorageError(f"{self.path} has been replaced by another folder; this run cannot be saved there")

    def weights_file(self, which: str, track: str) -> Path:
        """``weights/best-meat.safetensors``."""
        return self.weights / f"{which}-{track}.safetensors"

    def saved_weights(self, which: str, track: str) -> Path:
        """The existing weights file of ``track``.

        Raises:
            CheckpointError: there is none.
        """
        if not is_plain_name(track):
            raise CheckpointError(
                f"{self.path} has no track {track!r}: expected letters, digits, . _ - (no path)", path=self.path
            )
        path = self.weights_file(which, track)
        if path.is_file():
            return path
        saved = sorted({each.stem.partition("-")[2] for each in finished_files(self.weights, "*.safetensors")})
        if track not in saved:
            raise CheckpointError(f"{self.path} has no track {track!r}{nearest(track, saved)}", path=self.path)
        raise CheckpointError(
            f"{self.path} has no {which} weights of track {track!r} yet; finish it: buttress resume {self.path}",
            path=self.path,
        )


def planned_folder(runs: Path, name: str, run: str | None) -> RunFolder:
    """The folder of a new run: ``runs/<name>/<run>``, or for None the time, counted up where that is taken.

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
        raise RunFolderError(_exists(path), path=path)
    return RunFolder(path)


def _exists(path: Path) -> str:
    return f"{path} exists and is never overwritten; choose another --run, or continue it with: buttress resume {path}"
