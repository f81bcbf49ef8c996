"""Histories: snapshots that plugins keep outside of checkpoints, on disk or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from buttress.errors import CheckpointError, ConfigError
from buttress.storage.files import make_folder
from buttress.storage.seals import write_weights
from buttress.storage.verified_files import VerifiedFiles


class HistoryWriters(Protocol):
    """The processes that train together, of which the main one writes files."""

    @property
    def is_main(self) -> bool: ...

    def from_main(self, value: str, purpose: str = ...) -> str: ...


class Store:
    """The histories of a run.

    Args:
        folder: where histories on disk live (``RUN/history``), or None when there is no folder.
        writers: processes that share the folder; None: this one alone.
    """

    def __init__(self, folder: Path | None, writers: HistoryWriters | None = None) -> None:
        self.folder, self._writers = folder, writers

    def history(self, name: str, where: Literal["disk", "memory"], budget: int | None) -> History:
        if where == "memory":
            return MemoryHistory(name, budget)
        if self.folder is None:
            raise ConfigError(
                f"{name}: its history is to be kept on disk, but the engine has no folder; pass "
                "Engine(history=FOLDER), or set the plugin's history to 'memory'"
            )
        return DiskHistory(self.folder / name, self._writers)


class History:
    """Snapshots in the order in which they came; each maps names to 1-dim tensors on the CPU."""

    def __len__(self) -> int:
        raise NotImplementedError

    def append(self, tensors: Mapping[str, Tensor], epoch: int | None = None) -> None:
        """Add a snapshot; ``epoch`` (0-based, at whose end it was taken) goes into the header of its file."""
        raise NotImplementedError

    def reader(self) -> HistoryReader:
        """A context manager that reads slices: ``reader.rows(name, start, stop)``."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError


class HistoryReader:
    """Reads the same slice of every snapshot.

    ``paths`` lists the files of the snapshots, for callers that read whole files. A history in memory has none.
    """

    paths: Sequence[Path] = ()

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def rows(self, name: str, start: int, stop: int) -> list[Tensor]:
        """N tensors ``[stop - start]``: that part of tensor ``name`` in each snapshot."""
        raise NotImplementedError


class MemoryHistory(History):
    """Snapshots in memory; every checkpoint carries all of them.

    Args:
        name: name of the plugin, for messages.
        budget: bytes; a snapshot beyond it is an error, never a silently smaller history.
    """

    def __init__(self, name: str, budget: int | None) -> None:
        self._name, self._budget, self._bytes = name, budget, 0
        self._snapshots: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return len(self._snapshots)

    def append(self, tensors: Mapping[str, Tensor], epoch: int | None = None) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self._budget is not None and self._bytes + size > self._budget:
            raise ConfigError(
                f"{self._name}: snapshot {len(self) + 1} of {size:,} bytes goes over the memory budget of "
                f"{self._budget:,} bytes; raise the budget or keep the history on disk"
            )
        self._bytes += size
        self._snapshots.append({name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()})

    def reader(self) -> HistoryReader:
        return _MemoryReader(self._snapshots)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "memory", "snapshots": self._snapshots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _check_kind(self._name, state, "memory")
        self._snapshots, self._bytes = [], 0
        for snapshot in state["snapshots"]:
            self.append(snapshot)


class _MemoryReader(HistoryReader):
    def __init__(self, snapshots: list[dict[str, Tensor]]) -> None:
        self._snapshots = snapshots

    def rows(self, name: str, start: int, stop: int) -> list[Tensor]:
        return [snapshot[name][start:stop] for snapshot in self._snapshots]


class DiskHistory(History):
    """Snapshots as safetensors files ``00000.safetensors``, ...; checkpoints hold their names and sha256.

    A file is written once and never pruned, so every checkpoint finds what it refers to. A run that resumes from an
    older checkpoint writes the later files again. Each is sealed too, for whoever reads it without a checkpoint.

    Args:
        folder: folder of the files.
        writers: processes that have this history together; the main one writes, and the others wait for it.
    """

    def __init__(self, folder: Path, writers: HistoryWriters | None = None) -> None:
        self._folder, self._writers, self._verified = folder, writers, VerifiedFiles()
        self._files: list[dict[str, str]] = []

    def __len__(self) -> int:
        return len(self._files)

    def append(self, tensors: Mapping[str, Tensor], epoch: int | None = None) -> None:
        name = _snapshot_name(len(self._files))
        sha256 = self._write(name, tensors, epoch) if self._writers is None or self._writers.is_main else ""
        if self._writers is not None:
            sha256 = self._writers.from_main(sha256, "history")
        self._files.append({"name": name, "sha256": sha256})

    def _write(self, name: str, tensors: Mapping[str, Tensor], epoch: int | None) -> str:
        make_folder(self._folder)
        own = {key: value.detach().cpu() for key, value in tensors.items()}
        return write_weights(self._folder / name, own, {} if epoch is None else {"epoch": epoch})

    def reader(self) -> HistoryReader:
        self._expect_files(self._files)  # they may be days old; hashing them all takes longer than their median
        return _DiskReader([self._folder / file["name"] for file in self._files])

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "disk", "files": [dict(file) for file in self._files]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _check_kind(self._folder.name, state, "disk")
        for number, file in enumerate(state["files"]):
            if file["name"] != _snapshot_name(number):  # never a path out of the folder
                raise CheckpointError(
                    f"{self._folder}: the checkpoint refers to {file['name']!r}, which is no snapshot"
                )
        self._expect_files(state["files"])
        self._files = [dict(file) for file in state["files"]]

    def _expect_files(self, files: Sequence[Mapping[str, str]]) -> None:
        paths = [self._folder / file["name"] for file in files]
        with ThreadPoolExecutor() as pool:
            good = list(pool.map(self._verified.has_sha256, paths, [file["sha256"] for file in files]))
        for path in (path for path, whole in zip(paths, good, strict=True) if not whole):
            what = "is damaged" if path.exists() else "is missing"
            raise CheckpointError(f"{path} {what}: the checkpoint refers to it; restore it from a backup", path=path)


class _DiskReader(HistoryReader):
    def __init__(self, paths: list[Path]) -> None:
        self.paths, self._stack, self._open = paths, ExitStack(), list[Any]()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def rows(self, name: str, start: int, stop: int) -> list[Tensor]:
        if not self._open:
            self._open = [self._stack.enter_context(safe_open(path, framework="pt")) for path in self.paths]
        return [torch.as_tensor(file.get_slice(name)[start:stop]) for file in self._open]


def _snapshot_name(number: int) -> str:
    return f"{number:05d}.safetensors"


def _check_kind(name: str, state: Mapping[str, Any], kind: str) -> None:
    if state.get("kind") != kind:
        raise CheckpointError(
            f"{name}: the checkpoint keeps its history in {state.get('kind')}, the config asks for {kind}; "
            f"set history: {state.get('kind')}"
        )
