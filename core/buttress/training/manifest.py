"""The manifest of a run: everything besides the config that its numbers depend on, and each of its resumes."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator

from buttress._version import __version__
from buttress.components.loaded import LoadedPlugin
from buttress.components.sources import Source
from buttress.errors import CheckpointError, extended
from buttress.kernels import status
from buttress.storage.fingerprints import Fingerprint
from buttress.storage.git import git_state
from buttress.storage.names import PlainName
from buttress.storage.reading import file_sha256
from buttress.storage.seals import read_sealed, write_sealed
from buttress.storage.shapes import Shape, parse_shape


class Hardware(Shape):
    """The machine."""

    cpu: str = ""
    cpus: int | None = None
    torch_threads: int | None = None
    gpus: list[str] = Field([])


class CodeRecord(Shape):
    """Where the code of a component comes from."""

    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None
    sha256: str | None = None


class PluginRecord(CodeRecord):
    """One plugin of the stack, and where its code comes from."""

    settings: dict[str, Any] = Field({})


class Origin(Shape):
    """Where the module of a target comes from: installed, or a file of the user's own."""

    target: str
    distribution: str | None = None
    version: str | None = None
    folder: str | None = None
    file: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _file_is_whole(self) -> Self:
        if self.sha256 is not None and (self.folder is None or self.file is None):
            raise ValueError("expected folder and file beside sha256")
        return self


class PluginsFileRecord(Shape):
    """The run's copy of its own file of plugins."""

    name: PlainName
    sha256: str


class NamedFile(Shape):
    """A file that a setting names."""

    text: str
    folder: str
    file: str
    sha256: str


class DataRecord(Shape):
    """The data; older versions recorded no fingerprint."""

    splits: dict[str, int] = Field({})
    fingerprint: dict[str, dict[str, Any]] | None = None


class Continuation(Shape):
    """One resume of the run: when, by which command, and under what."""

    resumed: str
    command: list[str] = Field([])
    differences: list[str] = Field([])
    accepted: bool = False


class Manifest(Shape):
    """The content of ``manifest.json``; ``id`` is missing in those of older versions."""

    format: int = 1
    id: str | None = None
    config: str
    started: str = ""
    command: list[str] = Field([])
    buttress: str | None = None
    python: str | None = None
    packages: dict[str, str] = Field({})
    platform: str | None = None
    hardware: Hardware = Hardware()
    kernels: dict[str, Any] = Field({})
    git: dict[str, Any] | None = None
    plugins: dict[str, PluginRecord] = Field({})
    attack_losses: dict[str, CodeRecord] = Field({})
    hooks: dict[str, list[str]] = Field({})
    precision: dict[str, str] = Field({})
    data: DataRecord = DataRecord()
    plugins_file: PluginsFileRecord | None = None
    files: dict[str, NamedFile] = Field({})
    modules: dict[str, Origin] = Field({})
    continued: list[Continuation] = Field([])

    @property
    def fingerprint(self) -> Mapping[str, Fingerprint] | None:
        """Split name to fingerprint; None in the manifest of an older version."""
        return self.data.fingerprint

    @property
    def origins(self) -> dict[str, dict[str, str]]:
        """Section of the config to where the module of its target comes from."""
        return {section: origin.model_dump(exclude_none=True) for section, origin in self.modules.items()}


def read_manifest(path: Path) -> Manifest:
    """The manifest of a run, verified.

    Raises:
        CheckpointError: missing, damaged, or no manifest.
    """
    return as_manifest(read_sealed(path), path)


def as_manifest(body: Mapping[str, Any], path: Path) -> Manifest:
    """Check ``body``, read from ``path``, and make a manifest of it.

    Raises:
        CheckpointError: it is no manifest.
    """
    try:
        return parse_shape(Manifest, body, str(path))
    except CheckpointError as problem:
        raise extended(problem, "; put the file back as the run wrote it") from None


def manifest(
    plugins: Sequence[LoadedPlugin], attack: LoadedPlugin, order: Mapping[str, list[str]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that a run depends on besides its config, to be written as its manifest.

    Args:
        plugins: plugins of the run.
        attack: attack of its evaluations.
        order: hook to the labels of the plugins that it calls, in order.
        facts: further entries.
    """
    code = code_records(plugins, attack)
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        **hardware(),
        "kernels": status(),
        "git": git_state(),
        **code,
        "plugins": {
            loaded.label: {**code["plugins"][loaded.label], "settings": dict(loaded.settings)} for loaded in plugins
        },
        "hooks": dict(order),
        **facts,
    }


def code_records(plugins: Sequence[LoadedPlugin], attack: LoadedPlugin) -> dict[str, dict[str, dict[str, str | None]]]:
    """The origin of the code of plugins, by label, and of the losses of their attacks, by name in the config.

    Args:
        plugins: plugins of the run.
        attack: attack of its evaluations.
    """
    losses = [part for loaded in (*plugins, attack) for part in loaded.parts if part.kind == "attack_loss"]
    return {
        "plugins": {loaded.label: _code_record(loaded.source, type(loaded.plugin).__module__) for loaded in plugins},
        "attack_losses": {
            loss.name: _code_record(loss.source, getattr(loss.factory, "__module__", "")) for loss in losses
        },
    }


def _code_record(source: Source | None, module: str) -> dict[str, str | None]:
    """The origin of a component, with the sha256 of the file of its ``module``."""
    return {
        "distribution": source.distribution if source else None,
        "version": source.version if source else None,
        "entry_point": source.target if source else None,
        "sha256": _code_sha256(source, module),
    }


def _code_sha256(source: Source | None, module: str) -> str | None:
    """None where there is no file, and for a run's own file of plugins: its version is its sha256 already."""
    if source and source.version.startswith("sha256:"):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return file_sha256(Path(file)) if file else None
    except OSError:
        return None


def record_continuation(path: Path, entry: Continuation) -> None:
    """Add a resume to the manifest of a run.

    Raises:
        StorageError: the disk is full or refuses; the manifest is as it was.
        CheckpointError: it is damaged.
    """
    body = read_sealed(path)
    write_sealed(path, {**body, "continued": [*body.get("continued", []), entry.model_dump()]})


def package_versions() -> dict[str, str]:
    """Name to version of the packages on which numbers depend."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pluggy", "pydantic", "safetensors", "pyautoattack")
    return {name: version(name) for name in packages}


def hardware() -> dict[str, Any]:
    """Versions and hardware, on which numbers may depend."""
    return {
        "buttress": __version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "hardware": {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*: (.*)$", text, flags=re.MULTILINE)
    return match.group(1) if match else platform.processor()
