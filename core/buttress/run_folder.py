"""The folder of a run: ``runs/<name>/<time or given>/``, made once everything that can be checked has been."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from buttress import __version__
from buttress.errors import RunFolderError
from buttress.files import PLAIN_NAME, make_folder, storage_errors, write_json, write_text
from buttress.kernels import status
from buttress.plugins_file import PluginsFile
from buttress.registry import LoadedPlugin


class RunFolder:
    """Paths inside a run folder.

    ========================  ==================================================
    ``config.yaml``           the config with every default filled in
    ``<plugins_file>``        a copy of the config's own file of plugins, where it has one
    ``manifest.json``         versions, plugins, order of hooks, hardware, git
    ``metrics.jsonl``         one JSON object a line: training, evaluation
    ``log.txt``               what the console showed
    ``checkpoints/``          for resuming
    ``weights/``              best and last weights of every track
    ``history/``              snapshots that plugins keep
    ``eval/``                 results of ``buttress evaluate``
    ``summary.json``          best, last and diff of every track
    ``curves.png``            learning curves
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
        self.summary = path / "summary.json"
        self.curves = path / "curves.png"

    def create(self, config_text: str, manifest: Mapping[str, Any], plugins_file: PluginsFile | None = None) -> None:
        """Make the folder with its config and manifest, and a copy of the config's file of plugins.

        Raises:
            RunFolderError: it exists.
            StorageError: it cannot be written.
        """
        with storage_errors(self.path):
            make_folder(self.path.parent)
            try:
                self.path.mkdir()
            except FileExistsError:
                raise RunFolderError(_exists(self.path)) from None
            self.metrics.touch()
        if plugins_file is not None:
            write_text(self.path / plugins_file.name, plugins_file.text)
        write_json(self.manifest, manifest)
        write_text(self.config, config_text)

    def weights_file(self, which: str, track: str) -> Path:
        """``weights/best-meat.safetensors``."""
        return self.weights / f"{which}-{track}.safetensors"


def planned_folder(runs: Path, name: str, run: str | None) -> RunFolder:
    """Where a new run will live.

    Raises:
        RunFolderError: it exists, or ``run`` is no plain name.
    """
    if run is not None and not PLAIN_NAME.fullmatch(run):
        raise RunFolderError(f"run name {run!r}: expected letters, digits, . _ - (no path)")
    path = runs / name / (run or datetime.now().strftime("%Y%m%d-%H%M%S"))
    if path.exists():
        raise RunFolderError(_exists(path))
    return RunFolder(path)


def existing_folder(path: Path) -> RunFolder:
    """The folder of a run that was started.

    Raises:
        RunFolderError: it is none.
    """
    folder = RunFolder(path)
    if not folder.config.is_file() or not folder.manifest.is_file():
        raise RunFolderError(f"{path} is no run folder: it has no config.yaml and manifest.json")
    return folder


def manifest(
    plugins: Sequence[LoadedPlugin], order: Mapping[str, list[str]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run depends on besides its config."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        **hardware(),
        "kernels": status(),
        "git": _git(),
        "plugins": {
            loaded.label: {
                "distribution": loaded.source.distribution if loaded.source else None,
                "version": loaded.source.version if loaded.source else None,
                "entry_point": loaded.source.target if loaded.source else None,
                "settings": dict(loaded.settings),
            }
            for loaded in plugins
        },
        "hooks": dict(order),
        **facts,
    }


def hardware() -> dict[str, Any]:
    """Versions and hardware: what a number may depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pluggy", "pydantic", "safetensors")
    return {
        "buttress": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "hardware": {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _exists(path: Path) -> str:
    return f"{path} exists and is never overwritten; choose another --run, or continue it with: buttress resume {path}"


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*: (.*)$", text, flags=re.MULTILINE)
    return match.group(1) if match else platform.processor()


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
